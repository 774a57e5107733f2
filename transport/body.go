package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/heddlemesh/mesh/call"
)

// track ends the attempt when the response's body does, or now where there is none to wait for.
func track(resp *http.Response, a Attempt) {
	if resp.Body == nil || resp.Body == http.NoBody {
		a.Finish()
		return
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if rwc, ok := resp.Body.(io.ReadWriteCloser); ok {
			resp.Body = &upgraded{trackedBody: trackedBody{body: rwc, attempt: a}, writer: rwc}
			return
		}
	}
	resp.Body = &trackedBody{body: resp.Body, attempt: a}
}

// trackedBody is a response body whose end is the end of its attempt.
type trackedBody struct {
	body    io.ReadCloser
	attempt Attempt
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
	err := b.body.Close()
	b.end(nil)
	return err
}

func (b *trackedBody) end(err error) {
	if b.ended.Swap(true) {
		return
	}
	if err != nil && !errors.Is(err, io.EOF) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, http.ErrBodyReadAfterClose) {
		b.attempt.Answered(call.Outcome{Reason: call.ReasonReset})
	}
	b.attempt.Finish()
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
// can be used again, then it is closed.
func discard(resp *http.Response) {
	if resp == nil || resp.Body == nil {
		return
	}
	const most = 4 << 10
	_, _ = io.CopyN(io.Discard, resp.Body, most) // what goes wrong here concerns nobody
	_ = resp.Body.Close()
}
