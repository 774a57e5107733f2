package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// A LocalReply is an answer of the sidecar's own, in place of one from an endpoint or the application.
type LocalReply struct {
	Direction string // "inbound" or "outbound"
	Status    int    // 0 where a captured connection was reset
	Flag      string // Envoy's response flag, "-" for none
	Reason    string // a stable word: "no_route", "connect", "bad_request", …
	Text      string // the body, for people
	Method    string
	Host      string // in canonical form where it has one, else as the client wrote it
	Err       error  // what led to it, with route, cluster and endpoint where a *mesh.Error; may be nil
}

// Details says in one line what led to the reply.
func (l LocalReply) Details() string {
	if l.Err == nil {
		return l.Text
	}
	return l.Err.Error()
}

// responseDetails gives Envoy's response code details of the reply, else the word that the mesh has for its reason.
func (l *LocalReply) responseDetails() string {
	if e := l.refusal(); e != nil {
		return cmp.Or(e.Reason.Details(), l.Reason)
	}
	return l.Reason
}

func badRequest(text string) LocalReply {
	return LocalReply{Status: http.StatusBadRequest, Flag: "DPE", Reason: "bad_request", Text: text}
}

// replyOf says how to answer a request whose call failed.
func replyOf(err error) LocalReply {
	l := LocalReply{Err: err}
	var refused *RefusedError
	var ours *mesh.Error
	var dial *net.OpError
	var protocol textproto.ProtocolError
	reason := mesh.ReasonReset
	switch {
	case errors.As(err, &refused):
		l.Status, l.Flag, l.Reason, l.Text = http.StatusForbidden, "UH", "destination_refused", "destination not allowed"
		return l
	case errors.As(err, &ours):
		reason = ours.Reason
	case errors.Is(err, context.Canceled):
		reason = mesh.ReasonCanceled
	case errors.Is(err, context.DeadlineExceeded):
		reason = mesh.ReasonTimeout
	case errors.As(err, &dial) && dial.Op == "dial":
		reason = mesh.ReasonConnect
	case errors.As(err, &protocol), refusedByCodec(err):
		reason = mesh.ReasonProtocol
	}
	l.Status, l.Flag, l.Reason, l.Text = reason.HTTPStatus(), reason.Flag(), reason.String(), reason.Error()
	switch reason {
	case mesh.ReasonConnect, mesh.ReasonReset, mesh.ReasonRefused, mesh.ReasonProtocol:
		l.Text = "upstream connect error or disconnect/reset before headers: " + l.Text
	case mesh.ReasonOverflow:
		l.Text = "upstream connect error or disconnect/reset before headers. reset reason: overflow" // Envoy's
	case mesh.ReasonRateLimited:
		l.Text = transport.BodyLimited
	}
	if errors.Is(err, errInformational) {
		l.Status, l.Flag, l.Reason, l.Text = http.StatusBadGateway, "UPE", "too_many_informational", "upstream sent too many informational responses"
	}
	return l
}

// refusal gives the error of a call that the mesh has refused, nil for a reply of another origin.
func (l *LocalReply) refusal() *mesh.Error {
	var e *mesh.Error
	errors.As(l.Err, &e)
	return e
}

// flags are the reply's, as the log has them.
func (l LocalReply) flags() call.Flags { return call.ParseFlags(l.Flag) }

// grpcStatus is the reply's grpc-status.
func (l *LocalReply) grpcStatus() string {
	code := call.GRPCCode(l.Status)
	if e := l.refusal(); e != nil && e.GRPC != 0 {
		code = e.GRPCStatusCode()
	}
	return strconv.FormatUint(uint64(code), 10)
}

// reply answers a request and reports it. gRPC callers get a trailers-only answer, as from Envoy: HTTP 200
// and the status that grpc/doc/http-grpc-status-mapping.md gives for ours.
func (f *forwarder) reply(w http.ResponseWriter, r *http.Request, l LocalReply) {
	transport.Flagged(r.Context(), l.flags(), l.responseDetails(), l.Err)
	l.Direction, l.Method, l.Host = f.direction, r.Method, r.Host
	if host, err := canonicalHost(r.Host); err == nil {
		l.Host = host
	}
	f.report(l)
	h := w.Header()
	if e := l.refusal(); e != nil {
		transport.RefusalHeader(call.HTTPHeaders(h), e)
	}
	if isGRPC(r.Header) {
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", l.grpcStatus())
		h.Set("Grpc-Message", call.GRPCMessage(l.Text))
		if r.ProtoMajor >= 2 {
			h["Content-Length"] = nil
		}
		w.WriteHeader(http.StatusOK)
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(l.Text)+1))
	h.Set("X-Content-Type-Options", "nosniff")
	if l.Status == http.StatusMethodNotAllowed {
		h.Set("Allow", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
	}
	w.WriteHeader(l.Status)
	_, _ = io.WriteString(w, l.Text+"\n")
}

// isGRPC reports gRPC, not gRPC-Web.
func isGRPC(h http.Header) bool {
	v := h["Content-Type"]
	return len(v) == 1 && call.IsGRPC(v[0])
}
