package grpcmesh

import (
	"strings"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
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
	if r.conn != nil {
		r.conn.done()
		r.conn = nil
	}
	if info.Err == nil && !info.BytesSent {
		r.call.Drop(r.attempt) // the connection was lost before it could be used: picked again
		return
	}
	if info.Err == nil && (!info.BytesReceived || trailersOnly(info)) {
		early := info // it ended before the message was sent: how, grpc-go has told nobody yet
		r.early = &early
		return
	}
	r.judge(info)
}

// late judges an attempt that ended before its message was sent, now that its error is known.
func (r *rpc) late(err error) {
	if info := r.early; info != nil {
		r.early, info.Err = nil, err
		r.judge(*info)
	}
}

func (r *rpc) judge(info balancer.DoneInfo) {
	r.hear(info.Trailer)
	r.last = outcome(info, info.Err != nil && r.gaveUp(info.Err) != nil)
	if info.Err != nil && r.overran(info.Err) {
		r.last = transport.TryLate()
	}
	if r.last.Reason == call.ReasonCanceled && r.expired() {
		r.last.Reason = call.ReasonTimeout // the endpoint's fault, not the caller's
	}
	r.attempt.Answered(r.last)
	r.tried(info.Err, r.attempt.Finish())
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
			Overloaded:  info.Trailer["x-envoy-overloaded"] != nil,
			Pushback:    transport.GRPCPushback(info.Trailer["grpc-retry-pushback-ms"])}
	case code == codes.Unavailable && !info.BytesReceived && refused(info.Err):
		return call.Outcome{Reason: call.ReasonRefused, Unprocessed: true}
	case code == codes.Unavailable && (!info.BytesReceived || broken(info.Err)):
		return call.Outcome{Reason: call.ReasonReset}
	case code == codes.Unavailable: // after a message, or an HTTP status: the endpoint's answer, and its fault
		return call.Outcome{Status: 503}
	case !info.BytesReceived:
		return call.Outcome{}
	}
	return call.Outcome{Status: 200} // the answer began well
}

// errRefused is how grpc-go tells of a stream that the endpoint refused (RFC 9113 §8.7).
var errRefused = grpcstatus.Error(codes.Unavailable, "stream terminated by RST_STREAM with error code: REFUSED_STREAM")

// refused finds streams that the endpoint did not look at, refused or cut off by its GOAWAY. Of what they were
// grpc-go leaves the text only, which a server can say too that passes on an error of its own RPC: after a header it is that.
func refused(err error) bool {
	switch messageOf(err) {
	case messageOf(errRefused), "the connection is draining", "the stream is rejected because server is draining the connection":
		return true
	}
	return false
}

// broken finds the ends that grpc-go itself makes of lost connections: a status that came after a message
// otherwise looks the same.
func broken(err error) bool {
	text := messageOf(err)
	for _, of := range []string{"error reading from server: ", "connection error: ", "closing transport due to: ", "keepalive ping failed"} {
		if strings.HasPrefix(text, of) {
			return true
		}
	}
	return false
}

// trailersOnly reports whether the answer is a status and nothing else. grpc-go does not tell, but passes on
// the content-type, which the protocol has in an answer's first header block only.
func trailersOnly(info balancer.DoneInfo) bool {
	return info.BytesReceived && whole(info.Trailer)
}

// whole is trailersOnly for the trailer of an answer.
func whole(trailer metadata.MD) bool { return len(trailer["content-type"]) > 0 }
