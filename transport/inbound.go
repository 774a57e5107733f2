package transport

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
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

// authorize asks the policies and tells who wants to know. q does not escape.
func (e *Engine) authorize(s *authz.Set, q *authz.Request) authz.Decision {
	d := s.Decide(q)
	status, details := 0, ""
	if !d.Allowed {
		e.decided.denied.Add(1)
		status = http.StatusForbidden
	}
	if d.Audit != "" {
		e.decided.audited.Add(1)
	}
	if d.Shadow == authz.WouldDeny {
		e.decided.shadow.Add(1)
	}
	if e.onDecided != nil && (!d.Allowed || d.Audit != "" || d.Shadow != authz.None) {
		if !d.Allowed {
			details = d.Details()
		}
		e.onDecided(eventOf(&d, q, status, details))
	}
	return d
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

// enter decides about a request of net/http, with the header as the program is to see it. Where it is refused, the answer is
// written and ok is false. path is the one spelling that was decided on, for the program to see.
func (h *handler) enter(g Gate, w http.ResponseWriter, r *http.Request, header http.Header) (path string, v Verdict, ok bool) {
	path = r.URL.EscapedPath()
	if path == "" && r.URL.Host != "" {
		path = "/"
	}
	path, sound := call.CanonicalPath(path)
	view := call.Request{Method: r.Method, Scheme: "http", Authority: r.Host, Path: path, Query: r.URL.RawQuery, Protocol: r.Proto,
		Headers: call.HTTPHeaders(header)}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		view.Source = from.Addr()
	}
	q := Arrival{Request: authz.Request{Request: &view, Authority: r.Host}}
	if at, is := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); is {
		q.Local = at.AddrPort()
	}
	if port := h.guard.o.port; port != 0 {
		q.Local = netip.AddrPortFrom(q.Local.Addr(), port)
	}
	if r.TLS != nil {
		view.Scheme, q.SNI = "https", r.TLS.ServerName
	}
	q.Peer = PolicyPeer(r.Context())
	fragment := strings.IndexByte(r.RequestURI, '#') >= 0 // at which some readers cut a target off
	if !sound || fragment || smallLetters(r.Method) || twoHosts(r) || !q.Prepare() {
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return "", v, false
	}
	if rule := g.Custom(&q); rule != "" {
		v = g.Ask(r.Context(), &q, rule, &askedRequest{r, header})
	}
	if v.Status == 0 {
		v = g.Decide(&q)
	}
	if v.Status != 0 {
		refuse(w, r, &v)
		return "", v, false
	}
	return path, v, true
}

// smallLetters reports a method that a program could take for another: methods are told apart by case (RFC 9110 §9.1).
func smallLetters(method string) bool {
	return strings.IndexFunc(method, func(c rune) bool { return 'a' <= c && c <= 'z' }) >= 0
}

// twoHosts reports a request of HTTP/2 whose host field differs from its :authority.
func twoHosts(r *http.Request) bool {
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
