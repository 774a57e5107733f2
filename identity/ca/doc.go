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
// signed, never one that a request asks for. Layer L2.
package ca
