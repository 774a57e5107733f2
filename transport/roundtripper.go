package transport

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
)

// A RoundTripper sends net/http requests through the mesh. It keeps http.RoundTripper's contract: the
// request is not changed, its body is always closed, and it is safe for concurrent use. Where nothing has
// to be changed the leaf gets the caller's own request.
//
// net/http's Transport sends some requests again by itself when a kept connection turns out dead. Here
// that is switched off for every request with an Idempotency-Key header and every body that it would rewind
// after some of it was sent; the engine then repeats what is idempotent by its method. Requests without a
// body by GET, HEAD, OPTIONS and TRACE are still repeated inside net/http, on the same endpoint, and count as
// one attempt; so is, whatever the method, a request of which nothing was sent.
type RoundTripper struct {
	engine      *Engine
	passthrough http.RoundTripper
}

// NewRoundTripper makes the driver. passthrough takes the calls to hosts that the mesh does not know; they
// reach it unchanged. The engine's pools must be http.RoundTrippers, as Leaves are.
func NewRoundTripper(e *Engine, passthrough http.RoundTripper) *RoundTripper {
	return &RoundTripper{engine: e, passthrough: passthrough}
}

// RoundTrip implements http.RoundTripper. An answer of an endpoint, whatever its status, is a response; a
// call that got none is a *call.Error.
func (t *RoundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	var q call.Request
	if !view(&q, req) {
		return t.passthrough.RoundTrip(req)
	}
	var c Call
	switch step := t.engine.Begin(req.Context(), &c, &q); step.Kind {
	case Direct:
		resp, err := t.passthrough.RoundTrip(req)
		if err != nil {
			err = c.FailDirect(err)
		}
		c.End(err)
		return resp, err
	case Reject:
		closeBody(req)
		c.End(step.Err)
		return nil, step.Err
	}
	resp, err := t.forward(req, &c, &q)
	c.End(err)
	return resp, err
}

// forward waits until endpoints are known and makes the attempts of a call.
func (t *RoundTripper) forward(req *http.Request, c *Call, q *call.Request) (*http.Response, error) {
	for unresolved := c.Unresolved(); unresolved != nil; unresolved = c.Unresolved() {
		select {
		case <-unresolved:
		case <-req.Context().Done():
			closeBody(req)
			return nil, c.FailUnresolved(req.Context().Err())
		}
	}
	var out outgoing
	out.prepare(req, c, q)
	for {
		a, err := c.Pick(nil)
		if err != nil {
			out.abandon()
			return nil, err
		}
		leaf := a.Endpoint.Conns.(http.RoundTripper)
		out.handed = true
		resp, err := leaf.RoundTrip(out.req)
		o := classify(req.Context(), resp, err)
		o.StaleReuse = out.diedIdle(err)
		a.Answered(o)
		if out.canRepeat() {
			if wait, again := c.Next(o); again {
				discard(resp)
				a.Finish()
				if err := sleep(req.Context(), wait); err != nil {
					out.abandon()
					return nil, c.Fail(call.Outcome{Reason: call.ReasonCanceled}, err)
				}
				if err := out.again(); err != nil {
					out.abandon()
					return nil, c.Fail(call.Outcome{Reason: call.ReasonCanceled}, err)
				}
				continue
			}
		}
		if err != nil {
			out.abandon()
			a.Finish()
			return nil, c.Fail(o, err)
		}
		out.commit()
		track(req.Context(), resp, a)
		return resp, nil
	}
}

// CloseIdleConnections makes http.Client.CloseIdleConnections work.
func (t *RoundTripper) CloseIdleConnections() {
	for _, x := range []any{t.engine.pools, t.passthrough} {
		if c, ok := x.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

// view shows a net/http request to the matchers, without copying it. It reports false for what is not the
// mesh's to judge: other schemes, and hosts that only net/http can make sense of.
func view(q *call.Request, req *http.Request) bool {
	u := req.URL
	if u == nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	host, port, ok := splitHost(u.Host)
	if !ok {
		return false
	}
	q.Authority = u.Host
	safe := true
	if req.Host != "" && req.Host != u.Host {
		q.Authority = req.Host
		// A Host that is none must not lead past the rules of the host that would be dialled.
		if named, _, ok := splitHost(req.Host); ok {
			host = named
		} else {
			safe = false
		}
	}
	if port == 0 {
		port = 80
		if u.Scheme == "https" {
			port = 443
		}
	}
	q.Method, q.Scheme, q.Host, q.Port = req.Method, u.Scheme, host, port
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	q.Path, _ = call.CanonicalPath(rawPath(u)) // "" where it has none; the engine rejects that
	if q.Path == "*" && q.Method != http.MethodOptions || !safe {
		q.Path = ""
	}
	q.Query = u.RawQuery
	if u.Opaque != "" {
		q.Query = opaqueQuery(u)
	}
	q.Headers = call.HTTPHeaders(req.Header)
	return true
}

// splitHost is call.SplitAuthority over the name that net/http would dial and send for one beyond ASCII, so
// that no spelling of a host leads past its rules (RFC 5891; net/http's idnaASCII).
func splitHost(authority string) (host string, port uint16, ok bool) {
	host, port, err := call.SplitAuthority(authority)
	if err == nil {
		return host, port, true
	}
	if !strings.ContainsFunc(authority, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return "", 0, false
	}
	name, rest := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 {
		name, rest = authority[:i], authority[i:]
	}
	if name, err = idna.Lookup.ToASCII(name); err != nil {
		return "", 0, false
	}
	host, port, err = call.SplitAuthority(name + rest)
	return host, port, err == nil
}

// rawPath is the path that net/http would put on the request line.
func rawPath(u *url.URL) string {
	if u.Opaque != "" {
		return opaquePath(u.Opaque)
	}
	if p := u.EscapedPath(); p != "" {
		return p
	}
	return "/"
}

// outgoing is what the leaf is given, attempt after attempt.
type outgoing struct {
	original *http.Request
	req      *http.Request // the original itself where nothing had to be changed
	body     *replay       // for a body that can be read once only
	repeat   bool          // there is no body, or a way to make it again
	handed   bool          // the leaf has req, and closes its body
	trace    *reuse        // where net/http's own replay was on and had to be switched off
}

// prepare changes as little as possible: a request without a body, on a canonical path, without idempotency
// keys and with no headers to carry, goes down as it is. Under the program's own TLS nothing is added.
func (o *outgoing) prepare(req *http.Request, c *Call, q *call.Request) {
	o.original, o.req = req, req
	hasBody := req.Body != nil && req.Body != http.NoBody
	o.repeat = !hasBody || req.GetBody != nil
	if q.Scheme == "http" && (q.Path != rawPath(req.URL) || strings.HasPrefix(req.URL.Opaque, "//")) {
		o.canonicalURL(q)
	}
	var carry []CarriedField
	if q.Scheme == "http" {
		carry = c.engine.Carry(req.Context(), q.Headers)
	}
	keys := idempotencyKeys(req.Header)
	if keys || len(carry) > 0 {
		o.rewriteHeader(carry)
	}
	if keys && !hasBody || req.GetBody != nil && hasBody && c.idempotent && (keys || safe(q.Method)) {
		o.trace = new(reuse)
		o.req = o.req.WithContext(o.trace.attach(req.Context()))
	}
	switch {
	case !hasBody:
	case req.GetBody == nil:
		o.body = newReplay(req)
		o.copy().Body = o.body.body()
	case c.Policy().Protocol == snapshot.HTTP2 || safe(q.Method):
		// net/http would rewind the body by itself.
		o.copy().GetBody = nil
	}
}

// copy makes o.req a shallow copy that may be changed, once.
func (o *outgoing) copy() *http.Request {
	if o.req == o.original {
		o.req = new(http.Request)
		*o.req = *o.original
	}
	return o.req
}

// canonicalURL sends the spelling of the path that the decision was made on, and no other host's name.
func (o *outgoing) canonicalURL(q *call.Request) {
	u := *o.original.URL
	decoded, err := url.PathUnescape(q.Path)
	if err != nil {
		return // CanonicalPath let no malformed escape through
	}
	u.Path, u.RawPath, u.RawQuery, u.Opaque = decoded, q.Path, q.Query, ""
	if u.EscapedPath() != q.Path {
		// It has a byte that net/url escapes, and then it would unescape all others first.
		if u.Opaque = q.Path; strings.HasPrefix(q.Path, "//") {
			u.Opaque = "//" + q.Authority + q.Path
		}
	}
	o.copy().URL = &u
}

// rewriteHeader adds the carried fields, and respells the header keys by which net/http decides to send a
// request again. On the wire field names have no case.
func (o *outgoing) rewriteHeader(carry []CarriedField) {
	h := make(http.Header, len(o.original.Header)+len(carry))
	maps.Copy(h, o.original.Header)
	for _, key := range [...]struct{ seen, hidden string }{
		{"Idempotency-Key", "idempotency-key"}, {"X-Idempotency-Key", "x-idempotency-key"},
	} {
		if v, ok := h[key.seen]; ok {
			delete(h, key.seen)
			h[key.hidden] = append(slices.Clip(h[key.hidden]), v...) // the program may have spelled it so itself
		}
	}
	values := make([]string, len(carry))
	for i, f := range carry {
		if _, ok := h[f.Name.Lower()]; ok {
			continue // written past http.Header's methods, but the program's own all the same
		}
		values[i] = f.Value
		h[f.Name.Canonical()] = values[i : i+1 : i+1]
	}
	o.copy().Header = h
}

func idempotencyKeys(h http.Header) bool {
	if len(h) == 0 {
		return false
	}
	_, ok := h["Idempotency-Key"]
	if !ok {
		_, ok = h["X-Idempotency-Key"]
	}
	return ok // with or without a value: net/http looks for the key only
}

// safe lists the methods that net/http repeats by itself.
func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// canRepeat reports whether the same request could be sent once more.
func (o *outgoing) canRepeat() bool { return o.repeat || o.body != nil && o.body.again() }

// again readies the request for another attempt. It fails where the program's GetBody does.
func (o *outgoing) again() error {
	switch {
	case o.body != nil:
		r := *o.req
		r.Body = o.body.body()
		o.req = &r
	case o.original.Body != nil && o.original.Body != http.NoBody:
		body, err := o.original.GetBody()
		if err != nil {
			return err
		}
		r := *o.req
		r.Body, o.handed = body, false
		o.req = &r
	}
	if o.trace != nil {
		o.trace = new(reuse)
		o.req = o.req.WithContext(o.trace.attach(o.original.Context()))
	}
	return nil
}

func (o *outgoing) commit() {
	if o.body != nil {
		o.body.commit()
	}
}

// abandon closes the program's body where nobody else does: before the first attempt, and what GetBody made
// for one that is not made.
func (o *outgoing) abandon() {
	switch {
	case o.body != nil:
		o.body.abandon()
	case !o.handed:
		closeBody(o.req)
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// diedIdle reports whether the attempt failed because a kept connection was dead.
func (o *outgoing) diedIdle(err error) bool { return err != nil && o.trace != nil && o.trace.dead() }

// reuse watches which connection an attempt got.
type reuse struct{ reused, answered atomic.Bool }

func (r *reuse) attach(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { r.reused.Store(i.Reused) },
		GotFirstResponseByte: func() { r.answered.Store(true) },
	})
}

func (r *reuse) dead() bool { return r.reused.Load() && !r.answered.Load() }

// sleep waits, or gives the context's error as soon as that ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// View shows a net/http request as the engine sees it. It reports false for what the mesh leaves to
// net/http: other schemes, and hosts that have no canonical name. The view aliases the request.
func View(req *http.Request) (*call.Request, bool) {
	var q call.Request
	ok := view(&q, req)
	return &q, ok
}
