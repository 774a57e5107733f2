// Package grpcmesh drives the mesh's engine from grpc-go: routing by method and metadata, balancing, retries
// and accounting for each RPC, unary and streaming, on grpc-go's public API only.
//
//	conn, err := grpc.NewClient(grpcmesh.Target("ratings:9080"), grpcmesh.DialOptions(m)...)
//	server := grpc.NewServer(grpcmesh.ServerOptions(m)...)
//
// How it fits into a channel:
//
//   - an interceptor asks the engine once per RPC where it goes (unary.go, stream.go) and makes the attempts, also of a stream
//     that has answered nothing yet (repeatable.go), and beside each other (hedge.go);
//   - the channel's resolver publishes the endpoints of every cluster the host's rules lead to (resolver.go);
//   - the balancer, the one thing registered with grpc-go globally, keeps a connection to each (balancer.go), and more where
//     streams run out (spare.go);
//   - the picker lets the engine choose the endpoint of each attempt and waits for its connection (pick.go);
//   - its Done is where an attempt's outcome is told and its accounting ends (outcome.go).
//
// It decides nothing itself: rules, choice of endpoints, retries and verdicts are the engine's, so that an
// RPC is treated as the same request would be over net/http. It is no service and no code generator, and
// knows nothing of YAML. Layer L6.
package grpcmesh
