package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// attempt sends the request to one endpoint and reads the head of its answer. With an error there is none.
func (x *exchange) attempt(to peer) (call.Outcome, error) {
	x.to = to
	x.sending()
	for {
		if o, err := x.connect(); err != nil {
			return o, err
		}
		err := x.send()
		switch {
		case err == nil:
		case refusedByCodec(err):
			return call.Outcome{Reason: call.ReasonInvalidRequest}, err
		case x.reused && x.uw.Sent() == 0 && !x.upload.running:
			x.giveUp() // nothing of it was sent, whatever it is
			continue
		}
		break // an answer may have come before the connection ended
	}
	err := x.head()
	if err != nil {
		x.stopUpload()
		if x.upload.client != nil {
			return call.Outcome{Reason: call.ReasonCanceled}, err
		}
		return x.outcome(err), err
	}
	x.headed()
	x.heard()
	o := call.Outcome{Status: x.p.Status()}
	if o.Status == http.StatusTooManyRequests || o.Status == http.StatusServiceUnavailable {
		if v, ok := x.p.Get("retry-after", 0); ok {
			o.Pushback = transport.RetryAfter(v, time.Now())
		}
		_, o.RateLimited = x.p.Get("x-envoy-ratelimited", 0)
		_, o.Overloaded = x.p.Get("x-envoy-overloaded", 0)
	}
	return o, nil
}

// refusedByCodec reports a message that breaks the rules of HTTP, read or about to be written.
func refusedByCodec(err error) bool {
	_, is := errors.AsType[*http1.Error](err)
	return is
}

// connect takes a kept connection or opens one.
func (x *exchange) connect() (call.Outcome, error) {
	if now := time.Now(); x.upload.atOnce() {
		x.up = x.to.pool.Take(x.to.key, now) // send looks whether it lives
	} else {
		x.up = x.to.pool.Get(x.to.key, now)
	}
	x.reused = x.up != nil
	if !x.reused {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		err := context.Canceled
		if x.s.attendCall(cancel) {
			x.up, err = x.open(ctx)
		}
		x.s.attendCall(nil)
		if err != nil {
			x.up = nil
			o := x.outcome(err)
			if o.Reason == call.ReasonReset {
				o = call.NotConnected(err)
			}
			return o, err
		}
	}
	if !x.s.attend(x.up.NetConn()) {
		err := context.Canceled
		return x.outcome(err), err
	}
	return call.Outcome{}, nil
}

// outcome says why an attempt got no answer.
func (x *exchange) outcome(err error) call.Outcome {
	switch x.s.cause() {
	case clientGone, streamStill: // nobody's fault
		return call.Outcome{Reason: call.ReasonCanceled}
	case tooLate:
		return x.call.Late()
	case notEnded:
	}
	switch {
	case refusedByCodec(err), errors.Is(err, errInformational):
		return call.Outcome{Reason: call.ReasonProtocol}
	}
	if x.call.Overran() {
		return x.call.Late()
	}
	o := call.Outcome{Reason: call.ReasonReset}
	if x.up != nil {
		o.Unprocessed = x.uw.Sent() == 0
		o.StaleReuse = x.reused && len(x.up.Buffered()) == 0 && !errors.Is(err, io.ErrUnexpectedEOF)
	}
	return o
}

// send writes the request: head and body at once where that is all there.
func (x *exchange) send() error {
	q, w, u := &x.q, &x.uw, &x.upload
	w.Reset(x.up)
	w.Request(q.Method(), x.target)
	x.requestFields()
	if err := w.End(); err != nil {
		return err
	}
	if u.atOnce() {
		x.lateFields(w, q.Body.Trailer())
		var err error
		if x.reused {
			err = x.up.Ask(w, u.whole)
		} else {
			err = w.Finish(u.whole)
		}
		u.sent = err == nil
		w.Release() // however long the answer takes
		return err
	}
	if len(u.kept) == 0 {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	x.startUpload()
	return nil
}

// requestFields writes the header as it goes on.
func (x *exchange) requestFields() {
	q, w := &x.q, &x.uw
	host := x.host
	if host == "" {
		host = x.to.key.address.Addr
	}
	if !q.Has(http1.FieldHost) {
		w.Field("Host", host)
	}
	named := x.s.wire.mesh == nil && x.account.trace.RequestID() != ""
	for i := range q.Len() {
		switch id := q.ID(i); {
		case id == http1.FieldHost:
			w.Field("Host", host)
		case id == http1.FieldContentLength:
			w.Length(q.Body.Length())
		case len(x.marks) > 0 && x.marked(i):
		case x.edits || !x.forth.goes(i) || id == http1.FieldExpect && !q.ExpectContinue():
		case x.s.wire.mesh == nil && q.Is(i, "x-request-id"):
			if v := q.Value(i); v != "" {
				named = true
				w.Copy(&q.Fields, i)
			}
		default:
			w.Copy(&q.Fields, i)
		}
	}
	if x.edits {
		for _, m := range x.marks {
			x.edited.Set(m.Name, m.Value)
		}
		x.edited.write(w)
	} else {
		for _, m := range x.marks {
			w.Field(m.Name.Canonical(), m.Value)
		}
	}
	if q.Has(http1.FieldTE) && q.Lists(http1.FieldTE, "trailers") {
		w.Field("Te", "trailers") // gRPC refuses to go without, and trailers are passed on
	}
	if x.forth.caller != nil {
		w.Field(transport.ForwardedCert.Canonical(), x.forth.caller.Forwarded)
	}
	putPeer(w, x.says())
	if !named && x.s.wire.mesh == nil {
		w.Field("X-Request-Id", transport.RequestID(&x.id))
	}
	switch {
	case x.protocol != "":
		w.Field("Connection", "Upgrade")
		w.Field("Upgrade", x.protocol)
	case x.to.policy != nil && x.to.policy.Connections.MaxRequests == x.up.Responses()+1:
		w.Field("Connection", "close")
	}
	if q.Body.Framing() == http1.Chunked {
		w.Chunked()
		if names := announced(&q.Fields); names != "" {
			w.Field("Trailer", names)
		}
	}
}

// marked reports whether the attempt has a field of its own in the place of field i.
func (x *exchange) marked(i int) bool {
	for _, m := range x.marks {
		if x.q.Is(i, m.Name.Lower()) {
			return true
		}
	}
	return false
}

// lateFields passes trailer fields on.
func (x *exchange) lateFields(w *http1.Writer, f *http1.Fields) {
	for i := range f.Len() {
		if lateField(f.Name(i)) {
			w.CopyTrailer(f, i)
		}
	}
}

// head reads the head of the final answer and passes on what comes before it.
func (x *exchange) head() error {
	for n := 0; ; n++ {
		if err := x.up.ReadResponse(&x.p, x.q.Method()); err != nil {
			return err
		}
		x.s.moved()
		status := x.p.Status()
		if status >= 200 || status == http.StatusSwitchingProtocols {
			return nil
		}
		if n == maxInformational {
			return errInformational
		}
		if x.q.Minor() < 1 || status == http.StatusContinue && !x.q.ExpectContinue() {
			continue
		}
		x.back.sift(&x.p.Fields)
		x.w.Response(status, x.p.Reason(), x.q.Method())
		x.copyFields()
		if err := x.w.Finish(nil); err != nil {
			x.s.left()
			return err
		}
	}
}

// copyFields writes those of the response's fields that go on, but for what frames it.
func (x *exchange) copyFields() (dated bool) {
	p := &x.p
	for i := range p.Len() {
		if p.ID(i) == http1.FieldContentLength || !x.back.goes(i) {
			continue
		}
		dated = dated || p.Is(i, "date")
		x.w.Copy(&p.Fields, i)
	}
	return dated
}
