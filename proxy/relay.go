package proxy

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport/http1"
)

// respond passes the answer on: head, body, trailers. It reports whether that was whole; where it was not, the client's
// connection is cut.
func (x *exchange) respond() bool {
	x.told(nil)
	if x.p.Status() == http.StatusSwitchingProtocols {
		x.tunnel()
		return true
	}
	if !x.upload.complete.Load() || x.protocol != "" {
		// What the client sends from here on must not be taken for another request: the rest of a body, bytes of a
		// protocol that it was not let switch to.
		x.closing, x.unread = true, true
	}
	x.account.status = x.p.Status()
	x.s.answering()
	x.relayHead()
	whole := x.relayBody()
	x.account.bytes = x.p.Body.Taken()
	if x.account.rpc {
		x.account.ended(&x.p)
	}
	if !whole {
		x.account.brokeOff(x)
		x.aborted = true
		return false
	}
	x.keep()
	return true
}

// relayHead writes the head of the answer.
func (x *exchange) relayHead() {
	p, w := &x.p, &x.w
	x.back.sift(&p.Fields)
	framing := p.Body.Framing()
	if framing >= http1.Chunked && x.q.Minor() < 1 || x.f.draining.Load() {
		x.closing = true
	}
	w.Response(p.Status(), p.Reason(), x.q.Method())
	dated := false
	if edits := x.s.wire.mesh != nil && x.call.EditsResponse(); edits || x.admission.Tells() || x.verdict.EditsAnswer() {
		x.edited.take(&x.back)
		if edits {
			x.call.EditResponse(&x.edited, &x.view, p.Status())
		}
		x.admission.Header(&x.edited)
		x.verdict.EditAnswer(&x.edited)
		x.edited.write(w)
		x.edits = true
		_, dated = x.edited.Value(dateName, 0)
		if n := p.Body.Length(); n >= 0 {
			w.Length(n)
		}
	} else {
		for i := range p.Len() {
			switch {
			case p.ID(i) == http1.FieldContentLength:
				w.Length(p.Body.Length())
			case x.back.goes(i):
				dated = dated || p.Is(i, "date")
				w.Copy(&p.Fields, i)
			}
		}
	}
	putPeer(w, x.answers())
	if !dated {
		w.Field("Date", x.s.wire.date.Field(time.Now()))
	}
	if x.closing {
		w.Field("Connection", "close")
	}
	switch {
	case framing < http1.Chunked:
	case x.q.Minor() < 1:
		w.UntilClose()
	default:
		w.Chunked()
		if names := announced(&p.Fields); names != "" {
			w.Field("Trailer", names)
		}
	}
}

var dateName = call.NewName("date")

// relayBody passes the body on as it comes: nothing waits here for more. It reports whether all of it was passed on.
func (x *exchange) relayBody() bool {
	b, w := &x.p.Body, &x.w
	if b.Done() {
		return w.Finish(nil) == nil
	}
	passed := 0
	if b.Buffered() == 0 && (b.Remaining() < 0 || !x.up.Waits()) && w.Flush() != nil { // the head does not wait for a body that is not there
		return false
	}
	for {
		if b.Remaining() >= spliceFrom && b.Direct() >= spliceFrom && passed > 0 {
			if w.Flush() != nil {
				return false
			}
			if w.Direct() > 0 {
				how := x.splice.move(x.s, ofAnswer, w.Direct, b.Took, w.Took, x.s.nc, x.up.NetConn(), b.Direct())
				if x.torn = how == spliceSource; how != spliceDone {
					return false
				}
			}
		}
		piece, err := b.Next(pieceSize)
		x.s.moved()
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			x.torn = true
			return false
		case b.Done():
			if b.Framing() == http1.Chunked && x.q.Minor() > 0 {
				x.lateFields(w, b.Trailer())
			}
			return w.Finish(piece) == nil
		}
		if _, err := w.Write(piece); err != nil {
			return false
		}
		x.s.moved()
		passed += len(piece)
	}
}

// brokeOff reports that it was the endpoint that ended the answer: it has not, where it is the client who takes no more.
func (x *exchange) brokeOff() bool { return x.torn && !x.s.departed() }
