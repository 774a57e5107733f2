package grpcmesh

import (
	"errors"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

var (
	errForeign = errors.New("grpcmesh: the target is not one of the mesh: use grpcmesh.Target")
	errNoCall  = grpcstatus.Error(codes.Internal, "grpcmesh: the call did not pass the interceptors of grpcmesh.DialOptions")
)

// A picker hands grpc-go's question on to the call it is about.
type picker struct{ conns *connSet }

// Pick implements balancer.Picker. For one RPC it is called again for every repetition grpc-go makes by
// itself, and whenever there is something new while it waits.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	r, ok := info.Ctx.Value(rpcKey{}).(*rpc)
	if !ok {
		return balancer.PickResult{}, errNoCall
	}
	return r.pick(p.conns)
}

// foreign is the picker of a channel whose addresses come from another resolver.
type foreign struct{}

func (foreign) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, grpcstatus.Error(codes.Unavailable, errForeign.Error())
}
