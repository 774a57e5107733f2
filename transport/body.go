package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
)

// track ends the attempt when the response's body does, or now where there is none to wait for, and records the call then.
func track(out *outgoing, resp *http.Response, c *Call, a Attempt) {
	series, rpc := c.answering(out.original, resp)
	req, stop, sent := out.req, out.giveTry(), out.body
	entry := c.entryAt(out.original, resp, a)
	a.bounded = out.cancel != nil
	if resp.Body == nil || resp.Body == http.NoBody {
		took := a.finish()
		m := telemetry.Measurement{Duration: took, RequestBytes: length(req.ContentLength)}
		if series != nil {
			series.Record(m)
			c.trace.End(series.Outcome(), m)
		}
		c.engine.ended(entry, series, m)
		if stop != nil {
			stop()
		}
		return
	}
	var b *trackedBody
	rwc, both := resp.Body.(io.ReadWriteCloser)
	switch body := resp.Body; {
	case both && resp.StatusCode == http.StatusSwitchingProtocols:
		u := &upgraded{writer: rwc}
		b, resp.Body = &u.trackedBody, u
		b.body = body
		c.trace.End(telemetry.Outcome{Code: statusCode(resp.StatusCode), Flags: c.flags}, telemetry.Measurement{}) // however long the other protocol is spoken
	case sent != nil && req.ContentLength < 0 || rpc || c.told > 0 || c.trace.Active() || entry != nil:
		if sent != nil && req.ContentLength >= 0 && !rpc {
			sent = nil // its length is known
		}
		t := &tellingBody{counts: counts{ctx: c.heeded(out.ctx), sent: sent, resp: resp, rpc: rpc, trace: c.trace, entry: entry}}
		b, resp.Body = &t.trackedBody, t
		b.body = body
	default:
		b = &trackedBody{body: body}
		resp.Body = b
	}
	b.attempt, b.req, b.stop, b.series = a, req, stop, series
}

// trackedBody is a response body whose end is the end of its attempt. There is one for every call: it stays within 96 bytes.
type trackedBody struct {
	body    io.ReadCloser
	attempt Attempt
	req     *http.Request     // as it was sent: its context is the call's, time-out included
	series  *telemetry.Series // of the call, nil for none
	bytes   int64             // of the answer, as far as it was read
	stop    func()            // ends the attempt's context, nil where it has none
	closing atomic.Bool
	ended   atomic.Bool
}

func (b *trackedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.bytes += int64(n)
	if err != nil {
		b.end(err, nil)
	}
	return n, err
}

func (b *trackedBody) Close() error {
	b.closing.Store(true) // a read under way will fail of it
	err := b.body.Close()
	b.end(nil, nil)
	return err
}

// judge says whose doing it is that the body breaks off, to the endpoint's record and in Envoy's flags.
func (b *trackedBody) judge(err error, more *counts) call.Flags {
	ctx := b.req.Context()
	if more != nil {
		ctx = more.ctx
	}
	// What the time-out cuts off once the answer has begun may be the reader's slowness (Envoy,
	// Filter::onResponseTimeout), and a request's body that breaks off is the program's mistake.
	if o := classify(ctx, nil, err); !o.Neutral() {
		b.attempt.Answered(call.Outcome{Reason: call.ReasonReset})
		return call.FlagUC
	}
	if b.attempt.bounded && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return call.FlagUT
	}
	return call.FlagDC
}

func (b *trackedBody) end(err error, more *counts) {
	if b.ended.Swap(true) {
		return
	}
	var flag call.Flags
	if err != nil && !errors.Is(err, io.EOF) && !b.closing.Load() {
		flag = b.judge(err, more)
	}
	took := b.attempt.finish()
	engine := b.attempt.cluster.engine
	if b.series != nil {
		m := telemetry.Measurement{Duration: took, RequestBytes: length(b.req.ContentLength), ResponseBytes: length(b.bytes)}
		o := b.series.Outcome()
		o.Flags |= flag
		if more != nil {
			more.put(&o, &m)
		}
		if o != b.series.Outcome() {
			b.series = b.series.Instead(o)
		}
		b.series.Record(m)
		switch {
		case more != nil:
			o.Code = statusCode(more.resp.StatusCode) // where there were too many series it is not in them
			more.trace.End(o, m)
			engine.endedWith(more, o, m)
		case flag != 0:
			engine.broke(b, o, m)
		}
	}
	if b.stop != nil {
		b.stop()
	}
}

// timedBody is a response body that ends with the route's time-out at the latest.
type timedBody struct {
	io.ReadCloser
	ctx    context.Context // ends with the time-out
	caller context.Context
	stop   func()
	late   error // what a read gives after that
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	if err != io.EOF && errors.Is(b.ctx.Err(), context.DeadlineExceeded) && b.caller.Err() == nil {
		err = b.late
	}
	b.stop()
	return n, err
}

func (b *timedBody) Close() error {
	err := b.ReadCloser.Close()
	b.stop()
	return err
}

// upgraded is the body of a 101 answer: the connection itself, both ways.
type upgraded struct {
	trackedBody
	writer io.Writer
}

func (b *upgraded) Write(p []byte) (int, error) { return b.writer.Write(p) }

// CloseWrite ends the sending direction where the connection can do that.
func (b *upgraded) CloseWrite() error {
	if cw, ok := b.writer.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return http.ErrNotSupported
}

// discard gives a response up that is not passed on: a little of its body is read, so that the connection
// can be used again, then it is closed. A body that is slow to come is not worth the waiting.
func discard(resp *http.Response) {
	if resp == nil || resp.Body == nil {
		return
	}
	const most, patience = 4 << 10, 10 * time.Millisecond
	late := time.AfterFunc(patience, func() { _ = resp.Body.Close() })
	defer late.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, most) // what goes wrong here concerns nobody
	_ = resp.Body.Close()
}
