package transport

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// diedIdle reports whether the attempt failed because a kept connection was dead.
func (o *outgoing) diedIdle(err error) bool { return err != nil && o.trace != nil && o.trace.dead() }

// reuse watches which connection an attempt got.
type reuse struct{ reused, answered atomic.Bool }

func (r *reuse) attach(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { r.reused.Store(i.Reused) },
		GotFirstResponseByte: func() { r.answered.Store(true) },
	})
}

func (r *reuse) dead() bool { return r.reused.Load() && !r.answered.Load() }
