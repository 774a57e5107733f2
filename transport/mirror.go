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
// not: their body was longer than MirrorLimit, too many were under way, or the mirror's subset, host or port does not
// exist. A request whose body the endpoint did not want to its end is in neither.
func (e *Engine) Mirrored() (sent, dropped uint64) {
	return e.mirrors.sent.Load(), e.mirrors.dropped.Load()
}

// draw chooses the mirrors of this call, nil for none.
func (c *Call) drawMirrors() []*routing.Mirror {
	if c.route == nil || len(c.route.Mirrors) == 0 {
		return nil
	}
	var to []*routing.Mirror
	for i := range c.route.Mirrors {
		if m := &c.route.Mirrors[i]; resilience.Hits(m.Share, c.engine.rand()) {
			to = append(to, m)
		}
	}
	return to
}

// A shadow copies a request for its mirrors while the primary attempt reads its body, and sends the copies
// when that has read all of it. Nothing of what becomes of them reaches the call.
type shadow struct {
	driver  *RoundTripper
	state   *state
	to      []*routing.Mirror
	timeout time.Duration
	req     *http.Request // the copy, without its body

	started atomic.Bool
}

// newShadow prepares the copies of req, as it goes to the endpoint.
func (t *RoundTripper) newShadow(c *Call, to []*routing.Mirror, req *http.Request) *shadow {
	s := &shadow{driver: t, state: c.state, to: to, timeout: c.Timeout()}
	if s.timeout <= 0 {
		s.timeout = mirrorTimeout
	}
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
	m := &s.driver.engine.mirrors
	for _, to := range s.to {
		there := whole && to.Index >= 0 && to.Index < len(s.state.clusters)
		if !there || m.active.Add(1) > maxMirrors {
			if there {
				m.active.Add(-1)
			}
			m.dropped.Add(1)
			continue
		}
		m.sent.Add(1)
		go s.send(to, body)
	}
}

// send makes one copy's only attempt.
func (s *shadow) send(to *routing.Mirror, body []byte) {
	e := s.driver.engine
	defer e.mirrors.active.Add(-1)
	ctx, cancel := context.WithTimeout(e.background, s.timeout)
	defer cancel()
	req := s.req.WithContext(ctx)
	req.Header = s.req.Header.Clone()
	if len(body) > 0 {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	c := Call{engine: e, state: s.state, cluster: s.state.clusters[to.Index]}
	if def := c.cluster.def; def.Direct {
		u := *req.URL
		u.Host = net.JoinHostPort(def.Set.Host, strconv.Itoa(int(def.Set.Port)))
		req.URL = &u
		resp, err := s.driver.passthrough.RoundTrip(req)
		useUp(resp, err)
		return
	}
	for unresolved := c.Unresolved(); unresolved != nil; unresolved = c.Unresolved() {
		select {
		case <-unresolved:
		case <-ctx.Done():
			return
		}
	}
	a, err := c.Pick(nil)
	if err != nil {
		return
	}
	resp, err := a.Endpoint.Conns.(http.RoundTripper).RoundTrip(req)
	o := classify(ctx, resp, err)
	if o.Reason == call.ReasonCanceled && e.background.Err() == nil {
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

// tee gives the body of an attempt such that what it reads is kept for the mirrors.
func (s *shadow) tee(body io.ReadCloser) io.ReadCloser { return &teeBody{ReadCloser: body, shadow: s} }

type teeBody struct {
	io.ReadCloser
	shadow *shadow
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
		if err == io.EOF {
			b.shadow.start(b.kept, true)
		}
	}
	return n, err
}
