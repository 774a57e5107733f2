// Package snapshot is the compiled configuration of one workload, whole and immutable: route tables by
// scope, and the clusters that routes send to. It knows nothing of YAML, Istio or Kubernetes; whatever
// compiles configuration ends here, and the engine begins here.
//
//	s := &snapshot.Snapshot{
//		Version:  "7",
//		Tables:   map[string]*routing.Table{snapshot.Mesh: table},
//		Clusters: []snapshot.Cluster{{Name: "outbound|9080||reviews.default.svc.cluster.local", …}},
//	}
//
// Endpoints are not configuration: a cluster names the discovery set it draws from, and how to filter it.
// Layer L4.
package snapshot
