// Package workload is the client of the SPIFFE Workload API: an identity.Source for workloads that a SPIRE agent, or
// `heddle ca serve`, attests and issues to.
//
//	m, err := mesh.New(ctx, mesh.WithIdentity(workload.API{Address: "unix:///run/spire/sockets/agent.sock"}))
//
// It implements the X509-SVID profile of the SPIFFE Workload API and Workload Endpoint: SVIDs and bundles are streamed, so
// that what changes at the agent is here at once; a stream that breaks is opened again with back-off, and what was taken
// last stays until it expires. It is not a server; package identity/ca has one. It links grpc-go: programs that do not
// import it do not. Layer L2.
package workload
