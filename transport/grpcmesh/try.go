package grpcmesh

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// begins gives the context of a unary attempt, which ends with the rule's perTryTimeout where it has one. The endpoint is
// told: grpc-go makes the grpc-timeout of it.
func (r *rpc) begins() (context.Context, context.CancelFunc) {
	r.try = nil
	limit := r.call.PerTry()
	if limit == 0 || r.direct {
		return r, func() {}
	}
	ctx, stop := context.WithTimeout(r.of(), limit)
	r.try = ctx
	return ctx, stop
}

// beginsStream is begins for a stream that can be repeated. The rule's perTryTimeout is over with the first message, so that
// the endpoint is not told.
func (r *rpc) beginsStream() context.Context {
	limit := r.call.PerTry()
	if limit == 0 {
		r.timer = nil
		return r.of()
	}
	ctx, cancel := context.WithCancel(r.of())
	t := &tryTimer{cancel: cancel}
	t.timer = time.AfterFunc(limit, t.expire)
	r.timer = t
	return ctx
}

// A tryContext is the context of one attempt where another one may follow while the first one's is still asked for.
type tryContext struct {
	context.Context
	rpc *rpc
}

// of gives the rpc as the context of the next attempt.
func (r *rpc) of() context.Context { return tryContext{r.Context, r} }

// Value implements context.Context.
func (c tryContext) Value(key any) any {
	if key == (rpcKey{}) {
		return c.rpc
	}
	return c.Context.Value(key)
}

// A tryTimer ends one attempt of a stream unless that is kept before. Its methods hold for nil, which has no end.
type tryTimer struct {
	cancel func()
	timer  *time.Timer
	state  atomic.Int32
}

const (
	tryKept = iota + 1
	tryExpired
)

func (t *tryTimer) expire() {
	if t.state.CompareAndSwap(0, tryExpired) {
		t.cancel()
	}
}

// keep lets the attempt go on. It reports false where its time is over.
func (t *tryTimer) keep() bool {
	if t == nil {
		return true
	}
	if !t.state.CompareAndSwap(0, tryKept) {
		return t.state.Load() == tryKept
	}
	t.timer.Stop()
	return true
}

func (t *tryTimer) late() bool { return t != nil && t.state.Load() == tryExpired }

// stop ends what is left of an attempt that is over.
func (t *tryTimer) stop() {
	if t != nil {
		t.timer.Stop()
		t.cancel()
	}
}

var errTryLate = grpcstatus.Error(codes.DeadlineExceeded, "no message within the rule's perTryTimeout")

// overran reports whether the attempt has had its time, which the endpoint can say before our own timer does, and the RPC
// has not.
func (r *rpc) overran(told error) bool {
	if r.Err() != nil {
		return false
	}
	if r.timer.late() {
		return true
	}
	if r.try == nil {
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
	h := call.Headers((*sent)(r))
	if r.call.Traced() { // what is carried is replaced too
		md, _ := metadata.FromOutgoingContext(r.Context)
		h = headers(md)
	}
	marks := r.call.AttemptMarks(few[:0], h, nil)
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
