package transport

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
)

// A RoundTripper sends net/http requests through the mesh. It keeps http.RoundTripper's contract: the
// request is not changed, its body is always closed, and it is safe for concurrent use. Where nothing has
// to be changed the leaf gets the caller's own request.
//
// net/http's Transport, where it has the connection (HTTP/2, https URLs, NewNetHTTPLeaves), sends some requests
// again by itself when a kept connection turns out dead. That is switched off for every request with an
// Idempotency-Key header and every body that it would rewind after some of it was sent; the engine then repeats
// what is idempotent by its method. Requests without a body by GET, HEAD, OPTIONS and TRACE are still repeated
// inside net/http, on the same endpoint, and count as one attempt; so is, whatever the method, a request of
// which nothing was sent.
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
	var c Call
	var step Step
	switch {
	case view(&q, req):
		step = t.engine.Begin(req.Context(), &c, &q)
	case t.engine.Outbound() == AllowAny || req.URL == nil:
		return t.passthrough.RoundTrip(req)
	default:
		step = t.engine.beginUnnamed(req.Context(), &c, req.URL.Host)
	}
	return t.Resume(step, req, &c, &q)
}

// take does what the engine has decided.
func (t *RoundTripper) take(step Step, req *http.Request, c *Call, q *call.Request) (*http.Response, error) {
	if step.Delay > 0 {
		if err := sleep(req.Context(), step.Delay); err != nil {
			closeBody(req)
			return nil, c.Fail(call.Outcome{Reason: call.ReasonCanceled}, err)
		}
	}
	switch step.Kind {
	case Direct:
		return t.direct(req, c, q)
	case Reject:
		closeBody(req)
		return nil, step.Err
	case Reply:
		closeBody(req)
		resp := c.Reply().response(req, c, q)
		c.answeredBy(req, q, resp)
		return resp, nil
	}
	return t.forward(req, c, q)
}

// direct sends a call to the host itself. What has no rule goes as it came.
func (t *RoundTripper) direct(req *http.Request, c *Call, q *call.Request) (*http.Response, error) {
	var out outgoing
	out.begin(req, c)
	if c.dest != nil && q.Scheme == "http" {
		out.edit(c, q, nil)
		out.mirror(t, c, q)
	}
	resp, err := t.passthrough.RoundTrip(out.req)
	if err != nil {
		late := out.expired()
		out.stop()
		if late {
			return nil, c.Fail(c.Late(), context.DeadlineExceeded)
		}
		return nil, c.FailDirect(err)
	}
	editResponse(resp, c, q)
	c.answeredBy(req, q, resp)
	out.limit(resp, c)
	return resp, nil
}

// forward waits until endpoints are known and makes the attempts of a call.
func (t *RoundTripper) forward(req *http.Request, c *Call, q *call.Request) (*http.Response, error) {
	var out outgoing
	out.begin(req, c)
	for unresolved := c.Unresolved(); unresolved != nil; unresolved = c.Unresolved() {
		select {
		case <-unresolved:
		case <-out.ctx.Done():
			closeBody(req)
			late := out.expired()
			out.stop()
			if late {
				return nil, c.Fail(c.Late(), context.DeadlineExceeded)
			}
			return nil, c.FailUnresolved(req.Context().Err())
		}
	}
	out.prepare(c, q)
	out.mirror(t, c, q)
	resp, err := t.attempts(&out, c)
	if err != nil {
		out.stop()
		return nil, err
	}
	editResponse(resp, c, q)
	out.limit(resp, c)
	return resp, nil
}

// attempts tries endpoint after endpoint.
func (t *RoundTripper) attempts(out *outgoing, c *Call) (*http.Response, error) {
	for {
		a, err := c.Pick(nil)
		if err != nil {
			out.abandon()
			return nil, err
		}
		leaf := a.Endpoint.Conns.(http.RoundTripper)
		resp, err := out.send(leaf, c, a)
		if err = out.inTime(resp, err); err != nil {
			resp = nil
		} else {
			c.hearAnswer(a, resp)
		}
		o := out.judge(c, resp, err)
		if o.Reason == call.ReasonReset && c.Overran() {
			o, err = c.Late(), context.DeadlineExceeded
		}
		a.Answered(o)
		if wait, again := c.Next(o, out.canRepeat()); again {
			discard(resp)
			out.tried()
			a.Finish()
			err := sleep(out.ctx, wait)
			if err == nil {
				err = out.again(c)
			}
			if err != nil {
				out.abandon()
				return nil, c.Fail(out.gaveUp(c), err)
			}
			continue
		}
		if err != nil {
			out.tried()
			out.abandon()
			a.Finish()
			return nil, c.Fail(o, err)
		}
		out.commit()
		track(out, resp, c, a)
		return resp, nil
	}
}

// send hands the request to the leaf. Where code of the program panics in it, its body, dialer or trace, the call is over all the same.
func (o *outgoing) send(leaf http.RoundTripper, c *Call, a Attempt) (resp *http.Response, err error) {
	returned := false
	defer func() {
		if !returned {
			o.tried()
			o.stop()
			a.Answered(call.Outcome{Reason: call.ReasonCanceled})
			a.Finish()
			c.failed(o.original, c.Fail(call.Outcome{Reason: call.ReasonCanceled}, errPanicked))
		}
	}()
	o.handed = true
	resp, err = leaf.RoundTrip(o.try(c.PerTry()))
	returned = true
	return resp, err
}

// errPanicked is what a call is told to have failed with whose caller gets a panic.
var errPanicked = errors.New("the program's own code panicked")

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
	q.Protocol = protocolName(req)
	if req.RemoteAddr != "" { // of a request that a server was sent and passes on
		q.Source = sourceAddr(req.RemoteAddr)
	}
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
	host, port, err = call.SplitAuthority(asciiHost(authority))
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
	ctx      context.Context // the original's, or one that ends with the route's time-out
	cancel   func()          // ends ctx, nil where it is the original's
	shadow   *shadow         // nil where the call is not mirrored
	req      *http.Request   // the original itself where nothing had to be changed
	body     *replay         // for a body that can be read once only
	header   bool            // req has a header map of its own
	repeat   bool            // there is no body, or a way to make it again
	handed   bool            // the leaf has req, and closes its body
	trace    *reuse          // where net/http's own replay was on and had to be switched off
	own      *tryTimer       // of an attempt that has a time of its own
}

// begin starts the route's time-out, where there is one.
func (o *outgoing) begin(req *http.Request, c *Call) {
	o.original, o.req, o.ctx = req, req, req.Context()
	c.Heed(call.HTTPHeaders(req.Header))
	if d := c.Timeout(); d > 0 {
		o.ctx, o.cancel = context.WithTimeout(o.ctx, d)
		o.req = req.WithContext(o.ctx)
	}
	if end, ok := o.ctx.Deadline(); ok {
		c.Until(end)
	}
}

// prepare changes as little as possible: a request without a body, on a canonical path, without idempotency
// keys, with no headers to carry and by a rule that changes nothing, goes down as it is. Under the program's
// own TLS nothing is added.
func (o *outgoing) prepare(c *Call, q *call.Request) {
	req := o.original
	body := hasBody(req)
	o.repeat = !body || req.GetBody != nil
	if q.Scheme == "http" {
		o.edit(c, q, c.engine.Carry(req.Context(), q.Headers))
		o.mark(c)
	}
	once := c.sendsOnce(q)
	keys := !once && idempotencyKeys(o.req.Header)
	if keys {
		hideKeys(o.ownHeader(0))
	}
	if keys && !body || !once && req.GetBody != nil && body && c.idempotent && (keys || safe(q.Method)) {
		o.trace = new(reuse)
		o.req = o.req.WithContext(o.trace.attach(o.ctx))
	}
	switch {
	case !body:
	case req.GetBody == nil:
		o.body = newReplay(req)
		if c.engine.metrics != nil && speaksGRPC(req.Header) {
			o.body.frames = new(messages)
		}
		o.copy().Body = o.body.body()
	case once:
	case c.Policy().Protocol == snapshot.HTTP2 || c.Policy().Connections.ClientProtocol || safe(q.Method):
		// net/http would rewind the body by itself.
		o.copy().GetBody = nil
	}
}

// mark adds the header fields by which the attempt tells about itself.
func (o *outgoing) mark(c *Call) {
	var few [4]Mark
	marks := c.Marks(few[:0], call.HTTPHeaders(o.req.Header), nil)
	if len(marks) == 0 {
		return
	}
	values := make([]string, len(marks))
	for i, m := range marks {
		if _, hidden := o.req.Header[m.Name.Lower()]; hidden { // see hideKeys
			continue
		}
		values[i] = m.Value
		o.ownHeader(len(few))[m.Name.Canonical()] = values[i : i+1 : i+1]
	}
}

// sendsOnce reports that the call's leaves send nothing again by themselves.
func (c *Call) sendsOnce(q *call.Request) bool {
	l, ok := c.engine.pools.(*Leaves)
	return ok && !l.netHTTP && q.Scheme == "http"
}

// copy makes o.req a shallow copy that may be changed, once.
func (o *outgoing) copy() *http.Request {
	if o.req == o.original {
		o.req = new(http.Request)
		*o.req = *o.original
	}
	return o.req
}

// edit gives the request the spelling of the path that the decision was made on, or what the rule makes of it,
// no other host's name, the carried fields, and the rule's changes to the header.
func (o *outgoing) edit(c *Call, q *call.Request, carry []CarriedField) {
	path, authority := q.Path, q.Authority
	edits := c.EditsRequest()
	if edits {
		path, authority = c.Target(q)
	}
	if c.authority != "" {
		authority = c.authority
	}
	if u := o.original.URL; path != rawPath(u) || strings.HasPrefix(u.Opaque, "//") {
		o.setPath(path, authority, q.Query)
	}
	if authority != q.Authority {
		o.copy().Host = authority
	}
	if len(carry) > 0 {
		addCarried(o.ownHeader(len(carry)), carry)
	}
	if edits {
		c.EditRequest(requestHeader{call.HTTPHeaders(o.ownHeader(4))}, q, path, authority)
	}
}

// setPath changes the URL's path, which is percent-encoded. The query stays.
func (o *outgoing) setPath(path, authority, query string) {
	both := new(struct { // of one allocation
		url url.URL
		req http.Request
	})
	u := &both.url
	*u = *o.original.URL
	if i := strings.IndexByte(path, '?'); i >= 0 { // a rewrite may bring its own
		if query != "" {
			query = "?" + query
		}
		path, query = path[:i], path[i+1:]+query
	}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return // neither CanonicalPath nor Begin let a malformed escape through
	}
	u.Path, u.RawPath, u.RawQuery, u.Opaque = decoded, path, query, ""
	if u.EscapedPath() != path {
		// It has a byte that net/url escapes, and then it would unescape all others first.
		if u.Opaque = path; strings.HasPrefix(path, "//") {
			u.Opaque = "//" + authority + path
		}
	}
	if o.req == o.original {
		both.req = *o.original
		o.req = &both.req
	}
	o.req.URL = u
}

// ownHeader gives the header of the request, which may be changed, with room for a few
// fields more; the lists of values may not be changed.
func (o *outgoing) ownHeader(more int) http.Header {
	if !o.header {
		o.header = true
		h := make(http.Header, len(o.original.Header)+more)
		maps.Copy(h, o.original.Header)
		o.copy().Header = h
	}
	return o.req.Header
}

func addCarried(h http.Header, carry []CarriedField) {
	values := make([]string, len(carry))
	for i, f := range carry {
		if _, ok := h[f.Name.Lower()]; ok {
			continue // written past http.Header's methods, but the program's own all the same
		}
		values[i] = f.Value
		h[f.Name.Canonical()] = values[i : i+1 : i+1]
	}
}

// canRepeat reports whether the same request could be sent once more.
func (o *outgoing) canRepeat() bool { return o.repeat || o.body != nil && o.body.again() }

// again readies the request for another attempt. It fails where the program's GetBody does.
func (o *outgoing) again(c *Call) error {
	if o.original.URL.Scheme == "http" {
		r := *o.req
		r.Header, o.header = maps.Clone(o.req.Header), true // who read the one of the last attempt may not have ended
		if o.req = &r; r.Header == nil {
			r.Header = make(http.Header)
		}
		o.mark(c)
		hideKeys(r.Header)
	}
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
	if o.shadow != nil && o.req.Body != nil {
		o.req.Body = o.shadow.tee(o.req.Body, bodyLength(o.req))
	}
	if o.trace != nil {
		o.trace = new(reuse)
		o.req = o.req.WithContext(o.trace.attach(o.ctx))
	}
	return nil
}

// mirror starts the copies of a call, or has them start when its body has been sent.
func (o *outgoing) mirror(t *RoundTripper, c *Call, q *call.Request) {
	copies := c.Copies(q)
	if copies == nil {
		return
	}
	o.shadow = t.newShadow(copies, o.req)
	if o.req.Body == nil || o.req.Body == http.NoBody {
		o.shadow.start(nil, true)
		return
	}
	r := o.copy()
	r.Body, r.GetBody = o.shadow.tee(r.Body, bodyLength(r)), nil // net/http would rewind past us
}

// bodyLength gives the length of a request's body, which is there, -1 where it is not known.
func bodyLength(r *http.Request) int64 {
	if r.ContentLength == 0 {
		return -1
	}
	return r.ContentLength
}

// judge says how an attempt ended.
func (o *outgoing) judge(c *Call, resp *http.Response, err error) call.Outcome {
	switch {
	case err != nil && o.expired():
		return c.Late()
	case o.overran() && o.ctx.Err() == nil:
		return TryLate()
	}
	out := classify(o.original.Context(), resp, err)
	out.StaleReuse = out.StaleReuse || o.diedIdle(err)
	return out
}

// expired reports whether the route's time-out has ended the call, and not its caller.
func (o *outgoing) expired() bool {
	return o.cancel != nil && o.ctx.Err() != nil && o.original.Context().Err() == nil
}

// gaveUp is the outcome of a call that ends between attempts.
func (o *outgoing) gaveUp(c *Call) call.Outcome {
	if o.expired() {
		return c.Late()
	}
	return call.Outcome{Reason: call.ReasonCanceled}
}

// stop ends the time-out.
func (o *outgoing) stop() {
	if o.cancel != nil {
		o.cancel()
	}
}

// limit lets the route's time-out reach to the end of the answer's body, or to the 101 where the answer switches protocols:
// what is spoken then can be silent for as long as it likes (Envoy disarms its time-out there too).
func (o *outgoing) limit(resp *http.Response, c *Call) {
	switch {
	case o.cancel == nil:
	case resp.Body == nil || resp.Body == http.NoBody, resp.StatusCode == http.StatusSwitchingProtocols:
		o.stop()
	default:
		resp.Body = &timedBody{ReadCloser: resp.Body, ctx: o.ctx, caller: o.original.Context(), stop: o.cancel,
			late: c.Fail(c.Late(), context.DeadlineExceeded)}
	}
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
