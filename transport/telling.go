package transport

import (
	"context"
	"net/http"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// tellingBody is a response body of a call that tells more than its head does: how long its request was, and of an RPC by
// net/http how it ended.
type tellingBody struct {
	trackedBody
	counts counts
}

type counts struct {
	ctx    context.Context // the call's, which ends with the time that the caller has told, too
	resp   *http.Response
	sent   *replay // what gives the request's body, nil for its length
	rpc    bool
	answer messages
	trace  telemetry.Trace
	entry  *accesslog.Entry // for who is told of the end, nil for nobody
}

func (b *tellingBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.bytes += int64(n)
	if b.counts.rpc {
		b.counts.answer.add(p[:n])
	}
	if err != nil {
		b.end(err, &b.counts)
	}
	return n, err
}

func (b *tellingBody) Close() error {
	b.closing.Store(true)
	err := b.body.Close()
	b.end(nil, &b.counts)
	return err
}

// put adds what is known at the end.
func (c *counts) put(o *telemetry.Outcome, m *telemetry.Measurement) {
	if c.sent != nil {
		m.RequestBytes, m.RequestMessages = c.sent.length()
	}
	if !c.rpc {
		return
	}
	m.ResponseMessages = c.answer.count
	switch {
	case o.Flags&call.FlagDC != 0:
		o.GRPC = 1 + 1 // CANCELLED
	case o.Flags&call.FlagUC != 0:
		o.GRPC = 14 + 1 // UNAVAILABLE
	case o.Flags&call.FlagUT != 0:
		o.GRPC = 4 + 1 // DEADLINE_EXCEEDED
	case len(c.resp.Trailer["Grpc-Status"]) > 0:
		o.GRPC = grpcStatus(c.resp.Trailer)
	}
}

// messages counts those of a body of gRPC: each begins with five bytes, of which the last four say how many follow (gRPC over
// HTTP/2, Length-Prefixed-Message).
type messages struct {
	count uint64
	head  int    // of the five, how many have come
	size  uint32 // as far as they say
	left  uint64 // bytes of the message that are yet to come
}

func (m *messages) add(p []byte) {
	for len(p) > 0 {
		if m.left > 0 {
			n := min(m.left, uint64(len(p)))
			m.left -= n
			p = p[n:]
			continue
		}
		if m.head > 0 {
			m.size = m.size<<8 | uint32(p[0])
		}
		p = p[1:]
		if m.head++; m.head == 5 {
			m.count++
			m.left, m.head, m.size = uint64(m.size), 0, 0
		}
	}
}
