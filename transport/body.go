package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// track ends the attempt when the response's body does, or now where there is none to wait for. ctx is the call's, its
// time-out included. stop, where it is not nil, is called then too.
func track(ctx context.Context, resp *http.Response, a Attempt, stop func()) {
	if resp.Body == nil || resp.Body == http.NoBody {
		a.Finish()
		if stop != nil {
			stop()
		}
		return
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if rwc, ok := resp.Body.(io.ReadWriteCloser); ok {
			resp.Body = &upgraded{trackedBody: trackedBody{body: rwc, attempt: a, ctx: ctx, stop: stop}, writer: rwc}
			return
		}
	}
	resp.Body = &trackedBody{body: resp.Body, attempt: a, ctx: ctx, stop: stop}
}

// trackedBody is a response body whose end is the end of its attempt.
type trackedBody struct {
	body    io.ReadCloser
	attempt Attempt
	ctx     context.Context // the call's
	stop    func()          // ends the attempt's context, nil where it has none
	closing atomic.Bool
	ended   atomic.Bool
}

func (b *trackedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil {
		b.end(err)
	}
	return n, err
}

func (b *trackedBody) Close() error {
	b.closing.Store(true) // a read under way will fail of it
	err := b.body.Close()
	b.end(nil)
	return err
}

func (b *trackedBody) end(err error) {
	if b.ended.Swap(true) {
		return
	}
	if err != nil && !errors.Is(err, io.EOF) && !b.closing.Load() {
		// What the time-out cuts off once the answer has begun may be the reader's slowness (Envoy,
		// Filter::onResponseTimeout), and a request's body that breaks off is the program's mistake.
		if o := classify(b.ctx, nil, err); !o.Neutral() {
			b.attempt.Answered(call.Outcome{Reason: call.ReasonReset})
		}
	}
	b.attempt.Finish()
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
