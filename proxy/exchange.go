package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/internal/socket"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// An exchange is one request on a wire and what is answered to it. It belongs to the session's goroutine and is used
// again; what its strings alias ends with it.
type exchange struct {
	s *session
	f *forwarder

	q        http1.Request
	w        http1.Writer // to the client
	forth    passage      // of the request
	host     string       // what Host says on the way on, "" for the application's address
	protocol string       // the upgrade that is asked for, "" for none
	id       [requestIDSize]byte
	upload   upload

	view   call.Request // what the mesh decides on
	room   call.Room    // of the texts that are made for it
	call   transport.Call
	info   *transport.CallInfo // of a call that somebody is yet to be told of
	target string              // what the request line says on the way on
	edited editedHeader
	edits  bool             // edited takes the place of the fields of q
	marks  []transport.Mark // what the attempt tells of itself, in the place of fields of those names
	few    [4]transport.Mark

	admission transport.Admission // of a request for the application
	stay      transport.Stay      // of that request
	entered   bool
	over      bool              // while somebody was asked about it
	verdict   transport.Verdict // of the policies on it

	up     *http1.Conn
	to     peer
	reused bool
	uw     http1.Writer // to the endpoint
	p      http1.Response
	back   passage // of the response
	splice splicer

	account account

	closing bool   // the connection ends with the answer
	unread  bool   // and there may be bytes of the client's that nobody will read
	torn    bool   // it was not the client who ended the answer
	aborted bool   // it ends at once
	handed  bool   // it is another's
	joins   func() // makes a tunnel of the connection, nil for none
}

const requestIDSize = 36

// errTryLate is why an attempt that has had its time got no answer.
var errTryLate = errors.New("the attempt's time is over")

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// serve is the order of what happens to a request, whichever way it goes. It reports whether the connection ends
// for the session, and whether it then is another's.
func (x *exchange) serve(s *session, first bool) (over, handed bool) {
	x.s, x.f = s, s.wire.forward
	x.closing, x.unread, x.torn, x.aborted, x.handed, x.edits = false, false, false, false, false, false
	x.admission = transport.Admission{}
	x.marks = nil
	x.verdict = transport.Verdict{}
	x.upload.reset()
	x.w.Reset(s.conn)

	// The request's head.
	s.reading.Arm(transport.DefaultReadHeaderTimeout)
	err := s.conn.ReadRequest(&x.q)
	if !s.reading.Disarm() {
		return true, false
	}
	if err != nil {
		x.refuse(err, first)
		return true, x.handed
	}
	x.f.active.Add(1)
	x.f.total.Add(1)
	s.begin()
	x.openAccount(true)
	x.closing = !x.q.Persistent() || x.f.draining.Load()

	// Where to, and what comes back: what has two readings goes nowhere, and its connection ends.
	refused := x.aim()
	if refused == nil && x.f.overload.sheds() {
		l := overloaded()
		refused = &l
	}
	switch {
	case refused != nil:
		x.closing, x.unread = true, true
		x.reply(*refused)
	case x.connects():
		x.tunnelTo()
	case x.q.Form() == http1.AsteriskForm: // OPTIONS * is about the server that it reaches
		x.unfinished()
		x.account.status = http.StatusOK
		x.w.Response(http.StatusOK, "OK", x.q.Method())
		x.finishAnswer(nil)
	case s.wire.mesh != nil:
		x.ask()
	default:
		x.visit()
	}

	// The end of it, and of the connection where the client has not sent everything.
	x.stopUpload()
	x.giveUp()
	x.leave()
	s.finish()
	x.record()
	x.f.active.Add(-1)
	switch {
	case x.handed:
		return true, true
	case x.aborted:
		x.cutOff()
		return true, false
	case x.joins != nil:
		return true, false
	case x.unread || x.closing && len(s.conn.Buffered()) > 0:
		s.linger()
		return true, false
	}
	return x.closing, false
}

// release gives the buffers back, and the exchange.
func (x *exchange) release() {
	x.w.Release()
	x.uw.Release()
	if !x.handed {
		x.s.conn.Release()
	}
	if x.edits {
		x.edited.reset()
	}
	x.call.End(nil) // where the client has gone nobody is told
	x.call, x.view, x.admission, x.stay.Arrival, x.few = transport.Call{}, call.Request{}, transport.Admission{}, transport.Arrival{}, [4]transport.Mark{}
	x.verdict = transport.Verdict{}
	x.room.Empty()
	x.s, x.f, x.up, x.info, x.to, x.joins = nil, nil, nil, nil, peer{}, nil
	exchanges.Put(x)
}

// refuse ends a connection whose request could not be read.
func (x *exchange) refuse(err error, first bool) {
	bad, ok := errors.AsType[*http1.Error](err)
	if !ok {
		return
	}
	if first && x.s.speaksHTTP2() {
		x.handed = true
		x.s.hand()
		return
	}
	x.closing = true
	x.openAccount(false)
	x.account.status, x.account.flags, x.account.detail, x.account.err = bad.Status, call.FlagDPE, "http1.codec_error", bad
	x.record()
	x.f.report(LocalReply{Direction: x.f.direction, Status: bad.Status, Flag: "DPE", Reason: "bad_request", Text: bad.Text, Err: bad})
	x.w.Response(bad.Status, http.StatusText(bad.Status), "")
	x.write(bad.Text + "\n")
	x.s.linger()
}

// ask makes a call of the mesh.
func (x *exchange) ask() {
	m := x.s.wire.mesh
	ctx := context.Background()
	if x.f.tell != nil {
		x.info = new(transport.CallInfo)
		ctx = transport.Capture(ctx, x.info)
	}
	x.account.called = true
	step := m.engine.Begin(ctx, &x.call, &x.view)
	if step.Delay > 0 && !x.pause(step.Delay) {
		x.lose(x.outcome(nil), context.Canceled)
		return
	}
	step.Delay = 0
	switch {
	case step.Kind == transport.Reject:
		x.reply(replyOf(step.Err))
	case step.Kind == transport.Reply:
		x.answer(x.call.Reply())
	case step.Kind == transport.Direct && m.outside != nil && !x.call.Mirrored():
		x.direct()
	case step.Kind == transport.Direct || !x.call.Plain():
		x.handOver(step)
	default:
		x.attempts()
	}
}

// told says what has become of the call, once.
func (x *exchange) told(err error) {
	x.call.End(err)
	if x.info == nil {
		return
	}
	x.f.tell(x.info)
	x.info = nil
}

// attempts tries endpoint after endpoint.
func (x *exchange) attempts() {
	c := &x.call
	x.edit()
	if err := x.upload.prepare(&x.q, c.Retries()); err != nil {
		x.brokenBody(err)
		return
	}
	for {
		x.marks = c.Marks(x.few[:0], x.view.Headers, &x.room)
		a, err := c.Pick(nil)
		if err != nil {
			x.reply(replyOf(err))
			return
		}
		try := c.PerTry()
		if try > 0 {
			x.s.boundTry(try)
		}
		o, err := x.attempt(x.s.wire.upstreams.to(a.Endpoint.Def.Address, c.Policy(), a.TLS(), x.host))
		if try > 0 && x.s.tryOver() {
			o, err = transport.TryLate(), errTryLate
		}
		var wait time.Duration
		again := false
		if err != nil || c.Retries() {
			again = x.upload.again(func(replayable bool) (again bool) {
				wait, again = c.Next(o, replayable)
				return again
			})
		}
		a.Answered(o)
		switch {
		case again:
			if o.PerTry { // its connection has been interrupted
				x.stopUpload()
				x.giveUp()
			}
			x.discard()
			a.Finish()
			if !x.pause(wait) {
				o = x.outcome(nil)
				x.lose(o, c.Fail(o, context.DeadlineExceeded))
				return
			}
			continue
		case err != nil:
			x.lose(o, c.Fail(o, err))
		case !x.respond():
			x.stopUpload()
			if x.s.cause() == notEnded && x.upload.client == nil && !c.Overran() && x.brokeOff() {
				a.Answered(call.Outcome{Reason: call.ReasonReset})
			}
		}
		a.Finish()
		return
	}
}

// edit starts the route's time-out and makes of the request what the rule does.
func (x *exchange) edit() {
	c := &x.call
	c.Heed(x.view.Headers)
	if d := c.Timeout(); d > 0 {
		x.s.bound(d)
		c.Until(time.Now().Add(d))
	}
	path := x.view.Path
	if x.edits = c.EditsRequest(); x.edits {
		path, x.host = c.Target(&x.view)
		x.edited.take(&x.forth)
		c.EditRequest(&x.edited, &x.view, path, x.host)
	}
	if path != x.q.Path() {
		x.aimAt(path, x.view.Query)
	}
}

// direct sends the call to the host itself. What has no rule goes as it came.
func (x *exchange) direct() {
	c := &x.call
	to := net.JoinHostPort(x.view.Host, strconv.Itoa(int(x.view.Port)))
	if x.s.to.IsValid() {
		to = x.s.wire.captor.names.beyond(x.s.to)
	}
	if c.Ruled() {
		x.edit()
	} else if path, anew := spell(x.q.Path()); anew {
		x.aimAt(path, x.q.Query())
	}
	x.once(peer{key: upstreamKey{address: discovery.Address{Network: "tcp", Addr: to}}, pool: x.s.wire.upstreams.plain},
		func(o call.Outcome, err error) error {
			if o.Reason == call.ReasonTimeout {
				return c.Fail(o, context.DeadlineExceeded)
			}
			return c.FailDirect(err)
		})
}

// visit asks the application.
func (x *exchange) visit() {
	e := x.s.wire.engine
	if e.TracesArrivals() {
		x.account.trace = e.TraceArrival(context.Background(), &x.view, x.s.caller, "")
		x.marks = x.account.trace.Fields(x.few[:0], x.view.Headers)
	}
	if x.admission = e.Admit(&x.view, x.s.caller.Principal()); x.admission.Err != nil {
		x.reply(replyOf(x.admission.Err))
		return
	}
	token, ok := x.enters()
	if !ok {
		return
	}
	if x.admission = e.AdmitClaims(x.admission, &x.view, x.s.caller.Principal(), token); x.admission.Err != nil {
		x.reply(replyOf(x.admission.Err))
		return
	}
	app := x.s.app
	x.once(app.peer(x.s.wire.upstreams), func(o call.Outcome, err error) error {
		return &call.Error{Reason: o.Reason, Host: strings.Clone(x.host), Endpoint: app.address, Attempts: 1, Err: err}
	})
}

// once asks a peer of which there is only one. What its callers repeat is theirs to know; only a kept connection that turns out
// dead is made anew, for requests that can be repeated. failed makes the error of an attempt that got no answer.
func (x *exchange) once(to peer, failed func(call.Outcome, error) error) {
	if err := x.upload.prepare(&x.q, true); err != nil {
		x.brokenBody(err)
		return
	}
	for fresh := false; ; fresh = true {
		o, err := x.attempt(to)
		if o.StaleReuse && !fresh && safeMethod(x.q.Method()) && x.upload.again(yes) {
			x.discard()
			continue
		}
		if err != nil {
			x.lose(o, failed(o, err))
			return
		}
		x.respond()
		return
	}
}

func yes(replayable bool) bool { return replayable }

// safeMethod lists the methods that net/http too sends again on another connection.
func safeMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// keep gives the connection to the endpoint back, where it is fit to be used again.
func (x *exchange) keep() {
	x.stopUpload()
	if x.up == nil || !x.upload.sent || !x.p.Persistent() || !x.s.attend(nil) {
		x.giveUp()
		return
	}
	x.uw.Release()
	x.to.pool.Put(x.to.key, x.up, time.Now())
	x.up = nil
}

// giveUp closes the connection to the endpoint.
func (x *exchange) giveUp() {
	if x.up == nil {
		return
	}
	x.s.attend(nil)
	x.uw.Release()
	_ = socket.Beneath(x.up.NetConn()).Close() // TLS would wait for room to say that this is the end
	_ = x.up.Close()
	x.up = nil
}

// discard gives an answer up that is not passed on. Where its body is there and short, its connection is kept.
func (x *exchange) discard() {
	x.stopUpload()
	if x.up == nil {
		return
	}
	if b := &x.p.Body; x.p.Status() >= 200 && (b.Done() || b.Remaining() >= 0 && b.Remaining() <= int64(b.Buffered())) {
		if whole, err := b.Drain(4 << 10); whole && err == nil {
			x.keep()
			return
		}
	}
	x.giveUp()
}

// lose ends a request that got no answer.
func (x *exchange) lose(o call.Outcome, err error) {
	x.stopUpload()
	if x.upload.client != nil {
		x.brokenBody(x.upload.client)
		return
	}
	switch {
	case x.s.cause() == streamStill:
		x.reply(x.stillReply(err))
		return
	case x.s.cause() == turnedOut:
		x.refused(*x.s.verdict)
		return
	case o.Reason == call.ReasonCanceled:
		x.account.flags |= call.FlagDC
		x.aborted = true // for whom
		return
	}
	x.reply(replyOf(err))
}

// brokenBody answers a client whose body is none, or does nothing where the client has gone.
func (x *exchange) brokenBody(err error) {
	if !refusedByCodec(err) {
		x.account.flags |= call.FlagDC
		x.aborted = true
		return
	}
	x.closing, x.unread = true, true
	l := badRequest("malformed request body")
	l.Err = err
	x.reply(l)
}

// pause waits. It reports false where the client has gone or the time-out has passed meanwhile.
func (x *exchange) pause(d time.Duration) bool {
	wake := make(chan struct{})
	if !x.s.attendCall(sync.OnceFunc(func() { close(wake) })) {
		return false
	}
	defer x.s.attendCall(nil)
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-wake:
		return false
	case <-t.C:
		return true
	}
}

// cutOff makes sure that a client does not take what it got for the whole, where the end of the connection would say so.
func (x *exchange) cutOff() {
	nc := socket.Beneath(x.s.nc)
	if tcp, ok := nc.(*net.TCPConn); ok && x.q.Minor() < 1 {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close() // before TLS says that this is the end
}
