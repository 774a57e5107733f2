package transport

import (
	"context"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
)

// MaxHeaderFields is how many header fields a request may have; more are answered with 431. It is Envoy's
// default (max_headers_count). net/http bounds their bytes only.
const MaxHeaderFields = 100

// Handler puts next behind the mesh: calls made with the request's context carry the headers of its call
// tree (see Collect). A request without x-request-id is given one, as Envoy does, for next to see and its
// calls to carry. An offer to upgrade to h2c is taken off the request, because a handler that accepted it
// would serve further requests on a connection that is no longer ours to look at (RFC 9113 §3.1). A request that
// is one too many for a rate limit is answered with 429, and next does not see it.
//
// Where the configuration has RequestAuthentications for the workload, requests with a token that is not to be taken are
// answered with 401; where it has AuthorizationPolicies, requests that they do not allow are answered with
// 403 and "RBAC: access denied", an RPC with PERMISSION_DENIED, and next sees the path in the one spelling that was
// decided on (call.CanonicalPath). What has none, or a Host that is no host, is answered with 400.
//
// A request that came without mutual TLS of the mesh to a port whose PeerAuthentication is STRICT is answered with 403,
// and its connection ends: also where the program forgot Listener, and on connections that are older than the policy.
// Where the mesh has an identity, x-forwarded-client-cert is the verified peer's, and a caller's own is taken off; see
// PeerFromContext. Fields by which a caller speaks for the mesh are taken off (see Claims).
//
// What policies have let in they are asked about again when they change: a request that they do not let in any more is cut
// off, whatever of its answer has gone, and so is a connection that next has taken over. Of a server of the program's own
// that needs ConnContext.
//
// Where WithAppTLS has a configuration for each name (tls.Config.GetConfigForClient), a request for another name than that
// of its connection is answered with 421: HTTP/2 lets a client come on a connection that was asked less.
//
// Requests that CUSTOM policies select are asked about first: those that the authorizer does not let in are answered as it
// says, and 403 where it cannot be asked; others go on as it has changed them. Then, where it changes the answer, next gets a
// ResponseWriter around the server's.
//
// Nothing else of the request changes, and otherwise next gets the server's own ResponseWriter: Flusher, Hijacker,
// io.ReaderFrom and http.ResponseController work as without it. Panics pass through. A nil next is
// http.DefaultServeMux, as in http.Server.
func (in *Inbound) Handler(next http.Handler, opts ...InboundOption) http.Handler {
	if next == nil {
		next = http.DefaultServeMux
	}
	return &handler{in: in, guard: in.guard(opts, nil), next: next}
}

type handler struct {
	in    *Inbound
	guard *guard
	next  http.Handler
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	beginArrival(r.Context())
	caller := CallerFrom(r.Context())
	a, w := h.arrive(w, r, caller)
	whole := false
	defer func() { a.end(whole) }()
	h.serve(a, w, r, caller)
	whole = true
}

// serve is the order of what happens to a request.
func (h *handler) serve(a *arrivedRequest, w http.ResponseWriter, r *http.Request, caller *Caller) {
	if caller == nil && h.guard.refuses(r) {
		h.in.counters.plaintext.Add(1)
		w.Header().Set("Connection", "close")
		a.detail = "mtls_required"
		http.Error(w, "mutual TLS required", http.StatusForbidden)
		return
	}
	if caller == nil && h.guard.misdirected(r) {
		a.detail = "misdirected_request"
		http.Error(w, http.StatusText(http.StatusMisdirectedRequest), http.StatusMisdirectedRequest)
		return
	}
	if tooManyFields(r.Header) {
		a.flags, a.detail = call.FlagDPE, "http.too_many_headers"
		http.Error(w, http.StatusText(http.StatusRequestHeaderFieldsTooLarge), http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	header := h.attested(r, caller)
	admission, ok := h.admit(w, r, header)
	if !ok {
		a.flags, a.detail, a.err = call.FlagRL, admission.Err.Reason.Details(), admission.Err
		return
	}
	header = unclaimed(header, caller != nil)
	visit, path, verdict := h.enter(w, r, header)
	if visit == nil {
		a.detail = verdict.Details
		if a.flags = call.ParseFlags(verdict.Flag); verdict.Status == http.StatusBadRequest {
			a.flags = call.FlagDPE
		}
		return
	}
	defer visit.leave(h.in.engine)
	if !h.admitClaims(w, r, header, admission, verdict.Token) {
		a.flags, a.detail = call.FlagRL, call.ReasonRateLimited.Details()
		return
	}
	named := header.Get("X-Request-Id") != ""
	if header = h.settle(r, header, &verdict, a.trace.RequestID()); !named {
		a.named = header.Get("X-Request-Id")
	}
	a.traced(header)
	ctx, end := withTold(a.trace.Context(WithToken(r.Context(), verdict.Token)), call.HTTPHeaders(header))
	defer end()
	if call.IsGRPC(r.Header.Get("Content-Type")) {
		ctx = context.WithValue(ctx, admittedKey{}, &Admitted{verdict.gate, r.Header, visit})
	}
	a.Context, a.carried = ctx, Collect(call.HTTPHeaders(header))
	inner := r.WithContext(a)
	inner.Header, inner.Body = header, a.counting(r.Body)
	if visit.decided() {
		spell(inner, path, verdict.Query(r.URL.RawQuery))
	}
	h.next.ServeHTTP(answerWith(w, &verdict), inner)
	if r.MultipartForm == nil {
		r.MultipartForm = inner.MultipartForm // net/http removes the temporary files of the request it made
	}
}

func tooManyFields(h http.Header) bool {
	n := len(h)
	if n <= MaxHeaderFields {
		n = 0
		for _, v := range h {
			n += len(v)
		}
	}
	return n > MaxHeaderFields
}

// settle gives the header that the program sees. It is a copy, so that what was decided on stays as it came.
func (h *handler) settle(r *http.Request, came http.Header, v *Verdict, id string) http.Header {
	named := id != "" || came.Get("X-Request-Id") != ""
	h2c := r.ProtoMajor == 1 && offersH2C(came)
	header := maps.Clone(came)
	if header == nil {
		header = make(http.Header, 1)
	}
	v.Edit(call.HTTPHeaders(header))
	if !named {
		header["X-Request-Id"] = []string{h.in.engine.RequestID()}
	}
	if h2c {
		// net/http has made its own decisions about the connection by now.
		delete(header, "Upgrade")
		delete(header, "Connection")
		delete(header, "Http2-Settings")
	}
	return header
}

func offersH2C(h http.Header) bool {
	for _, v := range h["Upgrade"] {
		for token := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "h2c") {
				return true
			}
		}
	}
	return false
}

// RequestID makes an x-request-id for a request that came without: a UUID of version 4 (RFC 9562 §5.4) from the engine's
// random bits.
func (e *Engine) RequestID() string {
	return telemetry.NewRequestID(e.rand(), e.rand())
}

// A generalOptions answers OPTIONS * as net/http does by itself, past all handlers, unless it is told not to.
type generalOptions struct{ next http.Handler }

// ServeHTTP implements http.Handler.
func (g generalOptions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.RequestURI != "*" || r.Method != http.MethodOptions {
		g.next.ServeHTTP(w, r)
		return
	}
	if r.ContentLength != 0 { // a body that is there has no meaning here (RFC 9110 §9.3.7)
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, optionsBody))
	}
	w.Header().Set("Content-Length", "0")
}

const optionsBody = 4 << 10 // net/http's own bound
