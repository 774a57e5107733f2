package grpcmesh

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/transport"
)

// begins gives the context of a unary attempt, which ends with the rule's perTryTimeout where it has one. The endpoint is
// told: grpc-go makes the grpc-timeout of it. A stream has none: opening one waits for no answer.
func (r *rpc) begins() (context.Context, context.CancelFunc) {
	r.try = nil
	limit := r.call.PerTry()
	if limit == 0 || r.direct {
		return r, func() {}
	}
	ctx, stop := context.WithTimeout(r, limit)
	r.try = ctx
	return ctx, stop
}

// overran reports whether the attempt has had its time, which the endpoint can say before our own timer does, and the RPC
// has not.
func (r *rpc) overran(told error) bool {
	if r.try == nil || r.Err() != nil {
		return false
	}
	end, _ := r.try.Deadline()
	if time.Now().Before(end) {
		return false
	}
	if whole, ok := r.Deadline(); ok && !time.Now().Before(whole) {
		return false
	}
	return r.try.Err() != nil || grpcstatus.Code(told) == codes.DeadlineExceeded
}

// mark adds the metadata by which the attempt tells about itself, in the place of the last one's. What time is left grpc-go
// tells itself.
func (r *rpc) mark() {
	if r.direct {
		return
	}
	var few [4]transport.Mark
	marks := r.call.AttemptMarks(few[:0], (*sent)(r), nil)
	if len(marks) == 0 {
		return
	}
	md, _ := metadata.FromOutgoingContext(r.Context) // a copy
	if md == nil {
		md = make(metadata.MD, len(marks))
	}
	for _, m := range marks {
		if v, ok := outgoing(m.Name.Lower(), m.Value); ok {
			md[m.Name.Lower()] = []string{v}
		}
	}
	r.Context = metadata.NewOutgoingContext(r.Context, md)
}
