// Package extauthz asks authorizers by Envoy's gRPC (envoy.service.auth.v3.Authorization): the providers that MeshConfig
// names as envoyExtAuthzGrpc. Programs that do not import it link neither gRPC nor Envoy's protos for it.
//
//	m, err := mesh.New(ctx, mesh.WithConfigPath("mesh.d"), mesh.WithGRPCAuthorizers(extauthz.Dial))
//
// Calls go through the mesh like any other: the provider's service is discovered, balanced and secured as its documents
// say. Whom to ask, when, and what becomes of a request that nobody has decided on is package transport's.
//
// Layer L7.
package extauthz
