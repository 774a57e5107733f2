package transport

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/internal/socket"
)

// A PolicyEvent is what policies had to say about a request that came in: that it is refused, that it was let in because who
// had to be asked did not answer (failOpen), or what AUDIT and dry-run policies tell of it. Callers of the mesh hear nothing
// of it.
type PolicyEvent struct {
	Method, Host, Path string
	Source             netip.Addr     // who sent it, invalid where that is not known
	Principal          string         // the verified peer, "" for none
	Status             int            // of a request that is refused, 403, 401 or an authorizer's; 0 for one that is let in
	Details            string         // Envoy's response code details where it is refused
	Flag               string         // Envoy's response flag, "UAEX" where an authorizer or its failure has refused, "" for none
	Decision           authz.Decision // of CUSTOM its Rule
	Err                error          // why an authorizer could not decide, nil where none was asked, or it could
}

// InboundDecided counts what policies have decided.
type InboundDecided struct {
	Unauthenticated uint64 `json:"unauthenticated"` // tokens that were not taken
	Denied          uint64 `json:"denied"`
	Audited         uint64 `json:"audited"`
	Shadow          uint64 `json:"shadow_denied"` // would be denied by dry-run policies

	ExternalDenied uint64 `json:"external_denied"` // by authorizers that CUSTOM policies ask
	ExternalFailed uint64 `json:"external_failed"` // refused, because they could not decide
	ExternalOpened uint64 `json:"external_opened"` // let in all the same (failOpen)
}

// The reasons of verdicts that are counted.
const (
	reasonDenied          = "rbac_access_denied"
	reasonUnauthenticated = "jwt_authn_access_denied"
	reasonUnsound         = "bad_request"
)

// report counts a verdict, and tells who wants to know. q does not escape.
func (e *Engine) report(v *Verdict, q *authz.Request) {
	d := &v.Decision
	switch v.Reason {
	case reasonDenied:
		e.decided.denied.Add(1)
	case reasonUnauthenticated:
		e.decided.unauthenticated.Add(1)
	}
	if d.Audit != "" {
		e.decided.audited.Add(1)
	}
	if d.Shadow == authz.WouldDeny {
		e.decided.shadow.Add(1)
	}
	if e.onDecided != nil && (v.Status != 0 || d.Audit != "" || d.Shadow != authz.None) {
		e.onDecided(eventOf(d, q, v.Status, v.Details))
	}
}

// eventOf keeps what is told: strings of the request may be a buffer's.
func eventOf(d *authz.Decision, q *authz.Request, status int, details string) PolicyEvent {
	return PolicyEvent{Method: strings.Clone(q.Method), Host: strings.Clone(q.Authority), Path: strings.Clone(q.Path),
		Source: q.Source, Principal: q.Peer.Principal, Status: status, Details: details, Decision: *d}
}

// Decided says how often policies have refused and marked requests.
func (e *Engine) Decided() InboundDecided {
	return InboundDecided{Unauthenticated: e.decided.unauthenticated.Load(), Denied: e.decided.denied.Load(),
		Audited: e.decided.audited.Load(), Shadow: e.decided.shadow.Load(), ExternalDenied: e.decided.externalDenied.Load(),
		ExternalFailed: e.decided.externalFailed.Load(), ExternalOpened: e.decided.externalOpened.Load()}
}

// A guest is a request of net/http's that is under way.
type guest struct {
	Stay
	view   call.Request
	w      http.ResponseWriter
	r      *http.Request
	header http.Header // as the program is to see it
}

var guests = sync.Pool{New: func() any { return new(guest) }}

// enter decides about a request of net/http, with the header as the program is to see it. Where it is refused the answer is
// written, and there is no guest. path is the one spelling that was decided on, for the program to see where anything is asked.
func (h *handler) enter(w http.ResponseWriter, r *http.Request, came http.Header) (g *guest, path string, v Verdict) {
	g = guests.Get().(*guest)
	g.w, g.r, g.header = w, r, came
	path = r.URL.EscapedPath()
	if path == "" && r.URL.Host != "" {
		path = "/"
	}
	path, sound := h.in.engine.Paths().Spell(path)
	fragment := strings.IndexByte(r.RequestURI, '#') >= 0 // at which some readers cut a target off
	g.view = call.Request{Method: r.Method, Scheme: "http", Authority: r.Host, Path: path, Query: r.URL.RawQuery, Protocol: r.Proto,
		Headers: call.HTTPHeaders(came)}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		g.view.Source = from.Addr()
	}
	q := &g.Arrival
	*q = Arrival{Request: authz.Request{Request: &g.view, Authority: r.Host}}
	if direct := PhysicalPeer(connOf(r.Context())); direct.IsValid() {
		g.view.Source, q.Remote = direct.Addr(), g.view.Source
	}
	q.Local = localOf(r.Context())
	if port := h.guard.o.port; port != 0 {
		q.Local = netip.AddrPortFrom(q.Local.Addr(), port)
	}
	if r.TLS != nil {
		g.view.Scheme, q.SNI = "https", r.TLS.ServerName
	}
	q.Peer = PolicyPeer(r.Context())
	q.Unsound = !sound || fragment || smallLetters(r.Method) || twoHosts(r) || !q.Prepare()
	v = g.Enter(h.in.engine, g)
	switch {
	case v.Status == 0:
		return g, path, v
	case v.Reason == reasonUnsound:
		http.Error(w, v.Body, v.Status)
	default:
		refuse(w, r, &v)
	}
	g.forget()
	return nil, "", v
}

// Ask implements Guest.
func (g *guest) Ask(gate Gate, q *Arrival, rule string) Verdict {
	return gate.Ask(g.r.Context(), q, rule, &askedRequest{g.r, g.header})
}

// Denied implements Guest: the answer is cut off, the request's body too.
func (g *guest) Denied(*Verdict) {
	rc := http.NewResponseController(g.w) // of HTTP/2 it resets the stream
	_ = rc.SetReadDeadline(past)
	_ = rc.SetWriteDeadline(past)
	if conn := connOf(g.r.Context()); conn != nil && g.r.ProtoMajor == 1 {
		conn = socket.Beneath(conn)
		if tcp, ok := conn.(*net.TCPConn); ok && g.r.ProtoMinor == 0 {
			_ = tcp.SetLinger(0) // its end would look like the answer's
		}
		_ = conn.Close()
	}
}

// leave ends the request, when the program has returned.
func (g *guest) leave(e *Engine) {
	if g.r.ProtoMajor == 1 && (g.r.Method == http.MethodConnect || g.r.Header["Upgrade"] != nil) {
		if _, err := g.w.Write(nil); errors.Is(err, http.ErrHijacked) {
			e.outlive(connOf(g.r.Context()), &g.Arrival)
		}
	}
	g.Leave()
	g.forget()
}

func (g *guest) forget() {
	g.Arrival, g.view, g.guest, g.gate, g.w, g.r, g.header = Arrival{}, call.Request{}, nil, Gate{}, nil, nil, nil
	guests.Put(g)
}

// smallLetters reports a method that a program could take for another: methods are told apart by case (RFC 9110 §9.1).
func smallLetters(method string) bool {
	return strings.IndexFunc(method, func(c rune) bool { return 'a' <= c && c <= 'z' }) >= 0
}

// twoHosts reports a request of HTTP/2 whose host field, or the host in its :path, differs from its :authority, and a target that is
// absolute and has no host ("http:///x"), in whose place some readers take one from the path.
func twoHosts(r *http.Request) bool {
	if r.URL.Scheme != "" && r.URL.Host == "" {
		return true
	}
	if r.ProtoMajor >= 2 && r.URL.Host != "" && r.URL.Host != r.Host {
		return true
	}
	for _, host := range r.Header["Host"] {
		if host != r.Host {
			return true
		}
	}
	return false
}

// refuse answers as Istio's proxies do. Of a gRPC call the status is all that there is.
func refuse(w http.ResponseWriter, r *http.Request, v *Verdict) {
	h := w.Header()
	v.Refusal(call.HTTPHeaders(h))
	if t := r.Header["Content-Type"]; len(t) == 1 && call.IsGRPC(t[0]) {
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.FormatUint(uint64(call.GRPCCode(v.Status)), 10))
		h.Set("Grpc-Message", call.GRPCMessage(v.Message()))
		w.WriteHeader(http.StatusOK)
		return
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "text/plain")
	}
	bodiless := v.Status == http.StatusNoContent || v.Status == http.StatusNotModified
	if !bodiless {
		h.Set("Content-Length", strconv.Itoa(len(v.Body)))
	}
	w.WriteHeader(v.Status)
	if r.Method != http.MethodHead && !bodiless {
		_, _ = io.WriteString(w, v.Body) //nolint:gosec // G705: one of our own texts, or of the authorizer that is trusted to write it
	}
}

// spell gives a request of our own the path that was decided on, and the query that goes on.
func spell(r *http.Request, path, query string) {
	if (path == "*" || path == r.URL.EscapedPath()) && query == r.URL.RawQuery {
		return
	}
	u := *r.URL
	u.RawQuery = query
	u.Path, u.RawPath = path, ""
	if decoded, err := url.PathUnescape(path); err == nil { // what is canonical has sound escapes only
		u.Path, u.RawPath = decoded, path
	}
	r.URL, r.RequestURI = &u, u.RequestURI()
}
