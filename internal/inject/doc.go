// Package inject puts the sidecar into Kubernetes workloads: it reads their documents, adds the containers, and writes them again, with the
// comments, the order and the fields that were there. It knows no cluster, and asks nobody.
//
//	out, findings, err := inject.YAML(text, inject.Options{})
//
// What Istio's injector is told by annotations and labels it is told too; what it does not honour it names. A pod that the
// sidecar could not guard is refused, and then nothing is written.
//
// Layer L0.
package inject
