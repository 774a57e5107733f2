package grpcmesh

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"
)

// unary makes the attempts of a unary RPC. Its reply is written to by the last one only.
func (d *driver) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	r, err := d.begin(ctx, method, cc, opts)
	whole := false
	defer func() {
		if !whole {
			r.panicked()
		}
	}()
	if err == nil {
		if err = r.unary(req, reply, invoke, opts); err == nil {
			r.metrics.received.Store(1)
		}
		r.metrics.sent.Store(1)
	}
	r.tell(opts)
	unsaid(opts)
	whole = true
	r.end(err)
	return err
}

// panicked closes the books of a unary RPC that a panic ends, of the program's codec or of an interceptor after ours: grpc-go calls
// no Done then.
func (r *rpc) panicked() {
	r.late(errPanicked)
	if r.conn != nil {
		r.finished(balancer.DoneInfo{Err: errPanicked})
	}
	r.unpin(errPanicked)
	r.end(errPanicked)
}

func (r *rpc) unary(req, reply any, invoke grpc.UnaryInvoker, opts []grpc.CallOption) error {
	opts, hooks := r.withhold(opts)
	r.once = true
	r.mirror(req, invoke, opts)
	finish := func(err error) error {
		r.editAnswer(err, opts)
		for _, hook := range hooks {
			hook(err)
		}
		return err
	}
	if after := r.hedges(); after > 0 {
		if ok, err := r.hedged(req, reply, invoke, opts, after); ok {
			return finish(err)
		}
	}
	var header *metadata.MD
	if r.mayHear() {
		header = new(metadata.MD)
		opts = append(slices.Clip(opts), grpc.Header(header))
	}
	for {
		ctx, stop := r.begins()
		err := invoke(ctx, r.method, req, reply, r.cc, append(slices.Clip(opts), r.opts...)...)
		stop()
		if header != nil {
			r.hear(*header)
		}
		again, err := r.settle(err)
		if again {
			continue
		}
		return finish(err)
	}
}

// hedges gives how long an attempt goes on alone, 0 where it is never beside another.
func (r *rpc) hedges() time.Duration {
	if r.direct || !r.call.MayHedge() {
		return 0
	}
	r.heedMark()
	return r.call.Hedges()
}

// withhold takes grpc.OnFinish hooks out of the options where grpc-go may see several RPCs for what is one:
// they run once, at the end.
func (r *rpc) withhold(opts []grpc.CallOption) (rest []grpc.CallOption, hooks []func(error)) {
	isHook := func(o grpc.CallOption) bool { _, ok := o.(grpc.OnFinishCallOption); return ok }
	if r.direct || !slices.ContainsFunc(opts, isHook) {
		return opts, nil
	}
	for _, o := range opts {
		if hook, ok := o.(grpc.OnFinishCallOption); ok {
			hooks = append(hooks, hook.OnFinish)
		} else {
			rest = append(rest, o)
		}
	}
	return rest, hooks
}
