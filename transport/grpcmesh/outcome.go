package grpcmesh

import (
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
)

// doneFunc gives the function that grpc-go calls when an attempt is over. There is one for all of an RPC's.
func (r *rpc) doneFunc() func(balancer.DoneInfo) {
	if r.done == nil {
		r.done = r.finished
	}
	return r.done
}

// finished ends the attempt under way, its stream included.
func (r *rpc) finished(info balancer.DoneInfo) {
	if info.Err == nil && !info.BytesSent {
		r.call.Drop(r.attempt) // the connection was lost before it could be used: picked again
		return
	}
	r.last = outcome(info, info.Err != nil && r.gaveUp(info.Err) != nil)
	r.attempt.Answered(r.last)
	r.attempt.Finish()
}

// outcome says how an attempt ended whose connection was there. gone says that the caller has given up.
//
// What grpc-go makes of its own accord — a message that cannot be encoded, is too large or cannot be read —
// has the same form as an endpoint's answer; only what is certainly the endpoint's doing blames it.
func outcome(info balancer.DoneInfo, gone bool) call.Outcome {
	code := grpcstatus.Code(info.Err)
	switch {
	case info.Err == nil:
		return call.Outcome{Status: 200}
	case gone:
		return call.Outcome{Reason: call.ReasonCanceled}
	case !info.BytesSent:
		return call.Outcome{} // the connection was going away, or per-RPC credentials failed
	case trailersOnly(info):
		return call.Outcome{Status: 200, GRPCStatus: uint8(min(code, 100)) + 1,
			RateLimited: info.Trailer["x-envoy-ratelimited"] != nil,
			Overloaded:  info.Trailer["x-envoy-overloaded"] != nil}
	case code == codes.Unavailable:
		return call.Outcome{Reason: call.ReasonReset}
	case !info.BytesReceived:
		return call.Outcome{}
	}
	return call.Outcome{Status: 200} // the answer began well
}

// trailersOnly reports whether the answer is a status and nothing else. grpc-go does not tell, but passes on
// the content-type, which the protocol has in an answer's first header block only.
func trailersOnly(info balancer.DoneInfo) bool {
	return info.BytesReceived && len(info.Trailer["content-type"]) > 0
}
