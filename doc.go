// Package mesh is a service mesh inside a Go program: it routes, balances and retries HTTP calls by the
// Istio YAML that people already have, with no second process and no control plane.
//
//	m, err := mesh.New(ctx, mesh.WithConfigPath("mesh.d"))
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer m.Close()
//	resp, err := m.Client().Get("http://reviews:9080/reviews/1")
//
// How it differs from plain net/http:
//
//  1. A host that the configuration declares is not looked up in DNS: its endpoints come from
//     ServiceEntries and WorkloadEntries, and every call is balanced over them.
//  2. VirtualServices decide by host, path, method, headers and query which version of a service a call
//     goes to, and in what share.
//  3. A call that certainly was not processed — the connection was refused, the stream was — is tried on
//     another endpoint, twice by default.
//  4. A call that got no answer is an [*Error]: its Reason, the rule, the cluster, the endpoint, the number of
//     attempts. An answer is a response, whatever its status.
//  5. Every other host passes through, unchanged, on net/http's own transport; or none does ([WithOutboundTrafficPolicy]).
//  6. The configuration is live: what [WithConfigPath] names is watched, [Mesh.Apply] replaces the rest, and a
//     set with a mistake changes nothing.
//  7. Behind [Mesh.Serve] or [Mesh.Handler], trace headers of the request served travel to the calls made
//     under its context.
//
// [Mesh.Explain] tells what would happen to a request and why; the heddle command's explain and analyze do
// the same for a directory of YAML.
//
// What this version does not do, it refuses or warns about by name when the configuration asks for it;
// nothing that restricts traffic is accepted and not enforced. Layer L8.
package mesh
