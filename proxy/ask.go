package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
	"sync/atomic"

	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// put asks whom a CUSTOM policy names about the request, as long as the client is there. It reports false where the request
// is over: its client has gone, or its body is none.
func (x *exchange) put(gate transport.Gate, q *transport.Arrival, rule string) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a := &askedWire{x: x, ctx: ctx}
	if x.s.attendCall(func() { cancel(); a.stop() }) {
		x.verdict = gate.Ask(ctx, q, rule, a)
	}
	switch {
	case !x.s.attendCall(nil):
		x.lose(x.outcome(context.Canceled), context.Canceled)
		return false
	case a.err != nil:
		x.brokenBody(a.err)
		return false
	}
	return true
}

// An askedWire is the request of an exchange that somebody is asked about. What it gives is no buffer's.
type askedWire struct {
	x       *exchange
	ctx     context.Context
	reading atomic.Bool // the body
	err     error       // of the body
}

// stop ends a read of the body. The session calls it under its lock.
func (a *askedWire) stop() {
	if a.reading.Load() {
		_ = a.x.s.nc.SetReadDeadline(past)
	}
}

// Header implements transport.Asked.
func (a *askedWire) Header() http.Header {
	x := a.x
	h := make(http.Header, x.q.Len())
	for i := range x.q.Len() {
		if !x.forth.goes(i) || x.q.ID(i) == http1.FieldHost {
			continue
		}
		key := textproto.CanonicalMIMEHeaderKey(strings.Clone(x.q.Name(i)))
		h[key] = append(h[key], strings.Clone(x.q.Value(i)))
	}
	if c := x.forth.caller; c != nil {
		h[transport.ForwardedCert.Canonical()] = []string{c.Forwarded}
	}
	return transport.OwnHeader(h)
}

// Body implements transport.Asked.
func (a *askedWire) Body(most int) (first []byte, more bool, err error) {
	x := a.x
	b := &x.q.Body
	if b.Done() {
		return nil, false, nil
	}
	if x.q.ExpectContinue() {
		x.w.Response(http.StatusContinue, "Continue", x.q.Method())
		if a.err = x.w.Finish(nil); a.err != nil {
			return nil, false, a.err
		}
	}
	a.reading.Store(true)
	if a.err = a.ctx.Err(); a.err == nil {
		first, a.err = readUpTo(b, most+1, x.s.moved)
	}
	a.reading.Store(false)
	if a.err != nil {
		return nil, false, a.err
	}
	x.upload.begin(first, b.Done())
	return first[:min(len(first), most)], len(first) > most, nil
}

// readUpTo reads until the end of the body, or until so many bytes are there.
func readUpTo(b *http1.Body, most int, moved func()) ([]byte, error) {
	read := make([]byte, 0, 512)
	for len(read) < most {
		if len(read) == cap(read) {
			read = append(read, 0)[:len(read)]
		}
		n, err := b.Read(read[len(read):min(cap(read), most)])
		read = read[:len(read)+n]
		moved()
		switch {
		case errors.Is(err, io.EOF):
			return read, nil
		case err != nil:
			return nil, err
		case b.Done():
			return read, nil
		}
	}
	return read, nil
}

// begin takes the first bytes of the body, which are to be sent before the rest.
func (u *upload) begin(first []byte, whole bool) {
	if whole {
		u.whole = first
		u.complete.Store(true)
		return
	}
	u.kept = append(u.kept, first...)
	u.passed = int64(len(first))
}

// Size implements transport.Asked.
func (a *askedWire) Size() int64 { return a.x.q.Body.Length() }

// Trail implements transport.Asked.
func (a *askedWire) Trail() string {
	var all []string
	for i := 0; ; i++ {
		one, ok := a.x.q.Get("x-heddle-check", i)
		if !ok {
			return strings.Join(all, " ")
		}
		all = append(all, strings.Clone(one))
	}
}

// Remote implements transport.Asked.
func (a *askedWire) Remote() netip.AddrPort {
	if at, ok := a.x.s.nc.RemoteAddr().(*net.TCPAddr); ok {
		return at.AddrPort()
	}
	return netip.AddrPort{}
}
