// Package config reads Istio documents, and Kubernetes' Services with what is behind them, checks them as one
// set and compiles them into the plain types that calls are decided by. Layer L5.
//
// Text comes from a [Source] ([FromPaths], [FromFS], [NewInline] or a caller's own), is split and parsed
// by [Parse], and decoded field by field along the descriptors of istio.io/api, or the types of kubernetes.go.
// Nothing is guessed on the way: an unknown field, a number where text belongs, a key written twice, two members of one choice are
// each a [Finding] with file, line, column, field path, what was found and what would be right. All of a
// document's faults are reported, not only its first.
//
//	resources, findings := config.Parse("reviews.yaml", text)
//	for _, f := range findings {
//		fmt.Println(f) // Error [IST0106] (VirtualService default/reviews reviews.yaml:9:7) spec.http[0].retrise: …
//	}
//
// It is not on the path of a call: what it compiles to knows nothing of YAML or Istio. It is not a
// Kubernetes client, and it is no general YAML reader: anchors are followed within a budget, merge keys and
// explicit types are refused, and documents of other kinds are passed over with one line of information.
package config
