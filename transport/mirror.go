package transport

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
)

const (
	// MirrorLimit is how much of a request body is copied for mirrors, in bytes. A longer one is not mirrored.
	MirrorLimit = 64 << 10
	// maxMirrors bounds the copies under way; further ones are not made.
	maxMirrors = 1024
	// mirrorTimeout ends a copy whose route has no time-out.
	mirrorTimeout = 30 * time.Second
	// mirrorAnswer is how much of a mirror's answer is read so that its connection can be used again.
	mirrorAnswer = 256 << 10
)

// mirrors counts the copies that the engine's calls make.
type mirrors struct {
	active atomic.Int64
	sent   atomic.Uint64
	// dropped are the copies not made: see Mirrored.
	dropped atomic.Uint64
}

// Mirrored says how many copies of requests have been sent to mirrors, and how many should have been but were
// not: their body was longer than MirrorLimit, they were streams of gRPC, or RPCs to a service without endpoints, too many
// were under way, or the mirror's subset, host or port does not exist. A request whose body the endpoint did not want to its end is in neither.
func (e *Engine) Mirrored() (sent, dropped uint64) {
	return e.mirrors.sent.Load(), e.mirrors.dropped.Load()
}

// A Copy is a call to a mirror, which is one attempt, made by itself: nothing of what becomes of it reaches the call that it
// is a copy of. Where Start allows for it, Context, Direct, Unresolved, Pick and End follow, in a goroutine of the driver's.
type Copy struct {
	Call
	timeout time.Duration
	missing bool // there is no such cluster
}

// Copies draws the mirrors of this call, nil for none. What their clusters keep calls together by is looked for in q, the
// request that Begin was given.
func (c *Call) Copies(q *call.Request) []*Copy {
	if c.route == nil || len(c.route.Mirrors) == 0 {
		return nil
	}
	var copies []*Copy
	for i := range c.route.Mirrors {
		if m := &c.route.Mirrors[i]; resilience.Hits(m.Share, c.engine.rand()) {
			copies = append(copies, c.copyTo(m, q))
		}
	}
	return copies
}

func (c *Call) copyTo(m *routing.Mirror, q *call.Request) *Copy {
	p := &Copy{Call: Call{engine: c.engine, state: c.state}, timeout: c.Timeout()}
	if p.timeout <= 0 {
		p.timeout = mirrorTimeout
	}
	if p.missing = m.Index < 0 || m.Index >= len(c.state.clusters); p.missing {
		return p
	}
	p.cluster = c.state.clusters[m.Index]
	p.hash, p.hashed = hashOf(&p.cluster.def.Policy.Hash, q)
	return p
}

// Start counts the copy and reports whether it is to be made. whole says that all of the request could be copied.
func (p *Copy) Start(whole bool) bool {
	m := &p.engine.mirrors
	switch {
	case !whole || p.missing:
	case m.active.Add(1) > maxMirrors:
		m.active.Add(-1)
	default:
		m.sent.Add(1)
		return true
	}
	m.dropped.Add(1)
	return false
}

// Context gives the context of the copy: it ends with the rule's time-out, or else after 30 s, and with the engine.
func (p *Copy) Context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.engine.background, p.timeout)
}

// End closes the books of a copy that was started.
func (p *Copy) End() { p.engine.mirrors.active.Add(-1) }

// Direct gives the address of the host itself where the copy's cluster has no endpoints of its own.
func (p *Copy) Direct() (address string, ok bool) {
	if p.missing || !p.cluster.def.Direct {
		return "", false
	}
	set := p.cluster.def.Set
	return net.JoinHostPort(set.Host, strconv.Itoa(int(set.Port))), true
}

// A shadow copies a request for its mirrors while the primary attempt reads its body, and sends the copies
// when that has read all of it. Nothing of what becomes of them reaches the call.
type shadow struct {
	driver *RoundTripper
	copies []*Copy
	req    *http.Request // the copy, without its body

	started atomic.Bool
}

// newShadow prepares the copies of req, as it goes to the endpoint.
func (t *RoundTripper) newShadow(copies []*Copy, req *http.Request) *shadow {
	s := &shadow{driver: t, copies: copies}
	s.req = &http.Request{Method: req.Method, URL: new(*req.URL), Host: req.Host, Header: req.Header.Clone(),
		Proto: req.Proto, ProtoMajor: req.ProtoMajor, ProtoMinor: req.ProtoMinor}
	if s.req.Host == "" {
		s.req.Host = req.URL.Host
	}
	return s
}

// start sends the copies, once; what is not whole is not sent.
func (s *shadow) start(body []byte, whole bool) {
	if s.started.Swap(true) {
		return
	}
	for _, p := range s.copies {
		if p.Start(whole) {
			go s.send(p, body)
		}
	}
}

// send makes one copy's only attempt.
func (s *shadow) send(p *Copy, body []byte) {
	defer p.End()
	ctx, cancel := p.Context()
	defer cancel()
	req := s.req.WithContext(ctx)
	req.Header = s.req.Header.Clone()
	if len(body) > 0 {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	if address, ok := p.Direct(); ok {
		u := *req.URL
		u.Host = address
		req.URL = &u
		resp, err := s.driver.passthrough.RoundTrip(req)
		useUp(resp, err)
		return
	}
	for unresolved := p.Unresolved(); unresolved != nil; unresolved = p.Unresolved() {
		select {
		case <-unresolved:
		case <-ctx.Done():
			return
		}
	}
	a, err := p.Pick(nil)
	if err != nil {
		return
	}
	resp, err := a.Endpoint.Conns.(http.RoundTripper).RoundTrip(req)
	o := classify(ctx, resp, err)
	if o.Reason == call.ReasonCanceled && p.engine.background.Err() == nil {
		o.Reason = call.ReasonTimeout
	}
	a.Answered(o)
	useUp(resp, err)
	a.Finish()
}

// useUp reads an answer that nobody wants. Of one that switches protocols there is no end to wait for.
func useUp(resp *http.Response, err error) {
	switch {
	case err != nil:
	case resp.StatusCode == http.StatusSwitchingProtocols:
		_ = resp.Body.Close()
	default:
		_, _ = io.CopyN(io.Discard, resp.Body, mirrorAnswer) // what goes wrong here concerns nobody
		_ = resp.Body.Close()
	}
}

// tee gives the body of an attempt such that what it reads is kept for the mirrors. length is the body's, -1 where it is not
// known: of one that is, nobody has to read more than it has.
func (s *shadow) tee(body io.ReadCloser, length int64) io.ReadCloser {
	return &teeBody{ReadCloser: body, shadow: s, length: length}
}

type teeBody struct {
	io.ReadCloser
	shadow *shadow
	length int64
	kept   []byte
	long   bool
}

func (b *teeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case b.long:
	case len(b.kept)+n > MirrorLimit:
		b.long, b.kept = true, nil
		b.shadow.start(nil, false)
	default:
		b.kept = append(b.kept, p[:n]...)
		if err == io.EOF || int64(len(b.kept)) == b.length {
			b.shadow.start(b.kept, true)
		}
	}
	return n, err
}
