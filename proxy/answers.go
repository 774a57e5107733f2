package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// reply is forwarder.reply on a wire.
func (x *exchange) reply(l LocalReply) {
	l.Direction, l.Method = x.f.direction, strings.Clone(x.q.Method())
	l.Host = strings.Clone(x.q.Authority())
	if host, err := canonicalHost(l.Host); err == nil {
		l.Host = host
	}
	x.told(l.Err)
	x.f.report(l)
	x.unfinished()
	rpc := x.grpc()
	x.replied(&l, rpc)
	if rpc {
		x.w.Response(http.StatusOK, "OK", x.q.Method())
		x.editReply(&l, true)
		x.w.Field("Content-Type", "application/grpc")
		x.w.Field("Grpc-Status", l.grpcStatus())
		text := l.Text
		if x.verdict.Status != 0 {
			text = x.verdict.Message()
		}
		x.w.Field("Grpc-Message", call.GRPCMessage(text))
		x.finishAnswer(nil)
		return
	}
	x.w.Response(l.Status, http.StatusText(l.Status), x.q.Method())
	typed := x.editReply(&l, false)
	switch {
	case x.verdict.Status != 0 && typed: // an authorizer's own
		x.finishAnswer([]byte(l.Text))
		return
	case x.verdict.Status != 0:
		x.write(l.Text) // Istio's, to the byte
		return
	case l.Status == http.StatusMethodNotAllowed:
		x.w.Field("Allow", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
	}
	x.write(l.Text + "\n")
}

// editReply writes what the rule of the call says of answers of our own, and what tells the caller why the mesh has refused
// the request, and when to come back. It reports whether that names the type of the body, which an answer to gRPC does not.
func (x *exchange) editReply(l *LocalReply, grpc bool) (typed bool) {
	x.edited.reset()
	x.edits = true
	x.call.EditReply(&x.edited)
	if e := l.refusal(); e != nil {
		transport.RefusalHeader(&x.edited, e)
		x.admission.Header(&x.edited)
	}
	if x.verdict.Status != 0 {
		x.verdict.Refusal(&x.edited)
		if grpc {
			x.edited.Remove(contentTypeName)
		}
		_, typed = x.edited.Value(contentTypeName, 0)
	}
	x.edited.write(&x.w)
	return typed
}

// write completes an answer for people.
func (x *exchange) write(text string) {
	x.w.Field("Content-Type", "text/plain; charset=utf-8")
	x.w.Field("X-Content-Type-Options", "nosniff")
	x.finishAnswer([]byte(text))
}

// unfinished ends the connection with the answer where the client has not sent all of its body.
func (x *exchange) unfinished() {
	if !x.q.Body.Done() && !x.upload.complete.Load() || x.protocol != "" {
		x.closing, x.unread = true, true
	}
}

// finishAnswer writes what an answer of our own has besides, and sends it.
func (x *exchange) finishAnswer(body []byte) {
	putPeer(&x.w, x.answers())
	x.w.Field("Date", x.s.wire.date.Field(time.Now()))
	if x.closing = x.closing || x.f.draining.Load(); x.closing {
		x.w.Field("Connection", "close")
	}
	x.w.Length(int64(len(body)))
	if x.q.Method() == http.MethodHead {
		body = nil
	}
	x.account.bytes = int64(len(body))
	if x.w.Finish(body) != nil {
		x.aborted = true
	}
}

// answer gives what the rules say in place of an endpoint, as transport.Answer does for net/http.
func (x *exchange) answer(a *transport.Answer) {
	x.told(nil)
	x.unfinished()
	h := &x.edited
	h.reset()
	x.edits = true
	a.Header(h, &x.call, &x.view)
	status, body := a.Status, a.Body
	x.account.status = status
	if x.grpc() {
		code, message := a.ForGRPC()
		x.account.status, x.account.grpc = http.StatusOK, uint8(min(code, 16))+1
		status, body = http.StatusOK, nil
		h.Set(contentTypeName, "application/grpc")
		h.Set(grpcStatusName, strconv.FormatUint(uint64(code), 10))
		if message != "" {
			h.Set(grpcMessageName, call.GRPCMessage(message))
		}
	}
	x.w.Response(status, http.StatusText(status), x.q.Method())
	if status == http.StatusNoContent || status == http.StatusNotModified {
		body = nil
		h.Remove(contentTypeName)
	}
	h.write(&x.w)
	if status == http.StatusNotModified {
		x.w.Field("Date", x.s.wire.date.Field(time.Now()))
		if x.closing {
			x.w.Field("Connection", "close")
		}
		x.aborted = x.w.Finish(nil) != nil
		return
	}
	x.finishAnswer(body)
}

var (
	contentTypeName = call.NewName("content-type")
	grpcStatusName  = call.NewName("grpc-status")
	grpcMessageName = call.NewName("grpc-message")
)

// grpc reports a request of gRPC (see isGRPC).
func (x *exchange) grpc() bool {
	v, ok := x.q.Get("content-type", 0)
	if !ok || !call.IsGRPC(v) {
		return false
	}
	_, several := x.q.Get("content-type", 1)
	return !several
}

// tunnel joins client and endpoint after a 101 until both directions have ended, or one has failed.
func (x *exchange) tunnel() {
	p := &x.p
	taken, _ := p.Known(http1.FieldUpgrade, 0)
	_, several := p.Known(http1.FieldUpgrade, 1)
	if x.protocol == "" || several || !strings.EqualFold(taken, x.protocol) || !p.Lists(http1.FieldConnection, "upgrade") {
		x.closing, x.unread = true, true
		x.reply(LocalReply{Status: http.StatusBadGateway, Flag: "UPE", Reason: "unexpected_upgrade",
			Text: "upstream switched protocols unasked"})
		return
	}
	x.closing = true
	x.account.status = p.Status()
	if !x.f.tunnels.add(x.s.nc) {
		return
	}
	defer x.f.tunnels.remove(x.s.nc)
	x.back.sift(&p.Fields)
	x.w.Response(p.Status(), p.Reason(), x.q.Method())
	x.w.Field("Connection", "Upgrade")
	x.w.Field("Upgrade", x.protocol)
	x.copyFields()
	if x.w.Finish(nil) != nil {
		return
	}
	x.join()
}
