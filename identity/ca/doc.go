// Package ca is the development CA: it makes the authorities of one trust domain and issues X.509-SVIDs to workloads,
// for programs that are tried out on one machine. It is not a CA for production: its keys lie in files, and there is
// nobody who attests workloads but the owner of the files and sockets.
//
//	authority, err := ca.New("cluster.local", ca.Options{})
//	id, _ := identity.Workload("cluster.local", "default", "reviews")
//	material, err := authority.Issue(id)
//
// An [Authority] has a root that is believed and an issuing authority below it that signs; both are replaced with
// overlap, so that what the old ones signed stays good until it expires. Only an ID that the caller vouches for is
// signed, never one that a request asks for. [Init] and [Open] keep one in a directory, and [Authority.Rotate] replaces
// what has come to half of its life.
//
// [Authority.Listen] issues to other processes: over the SPIFFE Workload API, on a Unix socket for each workload, and over
// Istio's CSR protocol, to whoever has a workload's token. It links grpc-go. Layer L2.
package ca
