// Package interop puts the programs of others under the mesh: grpc-go's interoperability client and server, and connect-go's.
// Each of their cases runs over the mesh's options in one process, through the sidecar, and through two sidecars with mutual
// TLS between. It is a module of its own, so that the mesh needs nothing of what they need.
//
//	cd internal/interop && go test ./...
package interop
