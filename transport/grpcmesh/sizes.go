package grpcmesh

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/stats"

	"github.com/heddlemesh/mesh/telemetry"
)

// WithMessageSizes counts the bytes of messages, as gRPC's own metrics have them (gRFC A66:
// grpc.{client.attempt,server.call}.{sent,rcvd}_total_compressed_message_size): what grpc-go itself has measured on its way to the
// connection, whatever codec and compression there is. An RPC under way is counted with its end. Default: they are not counted, for
// grpc-go allocates for whoever asks, about 16 times for a unary RPC of a client and once for each message of a stream and direction. It
// means nothing to a mesh without metrics.
func WithMessageSizes() Option {
	return option(func(o *options) { o.sizes = true })
}

// A tally is the context of an attempt, or of an RPC that a server has received, with the bytes of its messages.
type tally struct {
	context.Context
	sent, received atomic.Uint64
	over           atomic.Pointer[ending] // of a server's: nil until its method has returned
}

// An ending is how a received RPC is counted.
type ending struct {
	calls *telemetry.RPCs
	code  uint32
}

type tallyKey struct{}

// Value implements context.Context.
func (t *tally) Value(key any) any {
	if key == (tallyKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// ends says how the RPC is counted that has ended; grpc-go has yet to send the answer of a unary one. It holds for nil.
func (t *tally) ends(calls *telemetry.RPCs, code uint32) {
	if t != nil {
		t.over.Store(&ending{calls, code})
	}
}

// A sizes hears from grpc-go of every message. It implements stats.Handler for clients and servers alike.
type sizes struct{}

// TagRPC implements stats.Handler: an attempt is its RPC's one under way.
func (sizes) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	t := &tally{Context: ctx}
	if r, ok := ctx.Value(rpcKey{}).(*rpc); ok {
		r.metrics.now = t
	}
	return t
}

// HandleRPC implements stats.Handler. What an attempt came to the RPC itself records, together with how long it took.
func (sizes) HandleRPC(ctx context.Context, about stats.RPCStats) {
	t, ok := ctx.Value(tallyKey{}).(*tally)
	if !ok {
		return
	}
	switch m := about.(type) {
	case *stats.OutPayload:
		t.sent.Add(uint64(m.CompressedLength))
	case *stats.InPayload:
		t.received.Add(uint64(m.CompressedLength))
	case *stats.End:
		if e := t.over.Load(); e != nil {
			e.calls.Sizes(e.code, t.sent.Load(), t.received.Load())
		}
	}
}

// TagConn implements stats.Handler.
func (sizes) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (sizes) HandleConn(context.Context, stats.ConnStats) {}
