package grpcmesh

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// An rpc is one RPC on its way through the mesh, with all its attempts. It is also the context under which
// grpc-go makes them: that is how picks find it. grpc-go orders all that happens to one RPC (picks, Done,
// the end) one after the other, so it needs no lock.
type rpc struct {
	context.Context // the caller's, with the carried headers and the rule's time-out

	caller context.Context
	stop   func() // ends the time-out, nil for none

	release func() bool // of what waits for the context's end, nil for none

	call   transport.Call
	driver *driver
	cc     *grpc.ClientConn
	to     target
	named  string // the method that the program has called
	asked  call.Request

	// What the rule makes of the RPC: its context, method and options, and the context before that.
	plain  context.Context
	method string
	opts   []grpc.CallOption
	edited bool
	anew   bool // the configuration has changed: it has to be made and sent anew
	open   bool // a stream that is the caller's already, for which it is too late

	own    metadata.MD // the caller's outgoing metadata, once read
	read   bool
	once   bool // unary: an attempt is one stream
	waits  bool // for ready: failing to connect does not end it
	direct bool // to the host itself, outside the mesh
	fixed  bool // a copy, or a leg: its cluster is what it was drawn for
	looked bool // for a mark of the method

	// Of a leg: the RPC that it is of, and what hears where it is.
	root   *rpc
	picked func(transport.Attempt)

	// The attempt under way.
	attempt transport.Attempt
	pinned  bool   // an endpoint is picked, its connection waited for
	conn    *conn  // what it goes over, once it does
	since   uint64 // how often connecting to it had failed by then
	done    func(balancer.DoneInfo)
	early   *balancer.DoneInfo // see late

	try   context.Context // of an attempt that has a time of its own, else nil
	timer *tryTimer       // of a stream's

	metrics measured
	by      *proof // of who the attempt under way goes to, nil for nobody

	// How the last attempt ended.
	last     call.Outcome
	cause    error       // why connecting failed
	rejected *call.Error // the mesh's own answer, found while picking
	told     error       // or the rule's
	answer   metadata.MD // and the header of that
}

type rpcKey struct{}

// Value implements context.Context.
func (r *rpc) Value(key any) any {
	if key == (rpcKey{}) {
		return r
	}
	return r.Context.Value(key)
}

// begin asks the engine what becomes of an RPC. Where there is an error the RPC ends with it; the rpc is
// there all the same.
func (d *driver) begin(ctx context.Context, method string, cc *grpc.ClientConn, opts []grpc.CallOption) (*rpc, error) {
	r := &rpc{Context: ctx, plain: ctx, caller: ctx, driver: d, cc: cc, named: method, method: method}
	var err error
	if r.to, err = parseTarget(cc.Target()); err != nil {
		return r, wrap(&call.Error{Reason: call.ReasonInvalidRequest, Host: cc.Target(), Err: err})
	}
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.FailFastCallOption:
			r.waits = !o.FailFast
		case grpc.AuthorityOverrideCallOption:
			r.to.authority = o.Authority
		}
	}
	r.asked = r.request()
	r.measure(opts)
	r.call.OfRPC(methodName(method))
	if err := r.take(d.engine.Begin(ctx, &r.call, &r.asked)); err != nil {
		return r, err
	}
	if !r.direct {
		r.carry()
	}
	if limit := r.call.Timeout(); limit > 0 {
		r.Context, r.stop = context.WithTimeout(r.Context, limit)
	}
	if end, ok := r.Deadline(); ok {
		r.call.Until(end)
	}
	r.plain = r.Context
	r.edit()
	return r, r.resolved()
}

// end closes the RPC's books.
func (r *rpc) end(err error) {
	r.call.End(err)
	r.record(err)
	r.timer.stop()
	if r.release != nil {
		r.release()
	}
	if r.stop != nil {
		r.stop()
	}
}

// request shows the RPC as the HTTP request it is on the wire.
func (r *rpc) request() call.Request {
	path, _ := call.CanonicalPath(r.named)
	if path != r.named {
		path = "" // another spelling than is sent: the engine refuses it
	}
	return call.Request{Method: "POST", Scheme: "http", Protocol: "HTTP/2", Host: r.to.host, Port: r.to.port,
		Authority: r.to.authority, Path: path, Headers: (*sent)(r)}
}

// take heeds the engine's decision.
func (r *rpc) take(step transport.Step) error {
	r.direct, r.answer = false, nil
	if err := r.pause(step.Delay); err != nil {
		return err
	}
	switch step.Kind {
	case transport.Reject:
		return wrap(step.Err)
	case transport.Reply:
		r.answer = r.headerOf(r.call.Reply())
		return answered(r.call.Reply())
	case transport.Direct:
		if r.driver.creds == nil {
			return wrap(r.unsecured())
		}
		r.direct = true
	}
	return nil
}

// unsecured is why a call outside the mesh cannot be made.
func (r *rpc) unsecured() error {
	err := r.call.FailDirect(errOutside)
	if call.ReasonOf(err) == call.ReasonNone {
		return r.call.Fail(call.Outcome{Reason: call.ReasonConnect}, err)
	}
	return err
}

// resolved waits until the cluster's endpoints are known, within the caller's context.
func (r *rpc) resolved() error {
	if r.direct {
		return nil
	}
	for unknown := r.call.Unresolved(); unknown != nil; unknown = r.call.Unresolved() {
		select {
		case <-unknown:
		case <-r.Done():
			if r.expired() {
				return r.canceled(r.Err(), r.Err())
			}
			return wrap(r.call.FailUnresolved(r.Err()))
		}
	}
	return nil
}

// carry adds what the RPC's context carries from a received request to its metadata.
func (r *rpc) carry() {
	fields := r.driver.engine.Carry(r.Context, (*sent)(r))
	if len(fields) == 0 {
		return
	}
	var few [8]string
	kv := few[:0]
	for _, f := range fields {
		if v, ok := outgoing(f.Name.Lower(), f.Value); ok {
			kv = append(kv, f.Name.Lower(), v)
		}
	}
	if len(kv) > 0 {
		r.Context = metadata.AppendToOutgoingContext(r.Context, kv...)
	}
}
