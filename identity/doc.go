// Package identity says who the program is and who its peers are: SPIFFE IDs, the X.509 documents (SVIDs) that prove
// them, the authorities that are believed for each trust domain, and TLS configurations that check all of it.
//
//	id := identity.New(identity.Options{})
//	go id.Run(ctx, identity.Files{Certificate: "svid.pem", Key: "key.pem", Bundle: "bundle.pem"})
//	…
//	config := id.ClientConfig(identity.ClientOptions{Names: []string{"spiffe://cluster.local/ns/default/sa/reviews"}})
//
// A [Source] hands over [Material]; an [Identity] takes it or keeps what it has, and hands out configurations that use
// what is newest at each handshake. Every check of a peer is made in VerifyConnection, so that a resumed session is
// checked like a new one. An empty bundle is never "trust anybody": it is refused.
//
// It implements SPIFFE-ID and X509-SVID of the SPIFFE standards with the identities of Istio,
// spiffe://<trust domain>/ns/<namespace>/sa/<service account>. The client of the Workload API, which needs
// gRPC, is package identity/workload. Standard library only. Layer L1.
package identity
