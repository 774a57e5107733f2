package transport

import (
	"math"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/jwt"
	"github.com/heddlemesh/mesh/resilience"
)

// An Admission is the word of the rate limits on a request that the workload has received.
type Admission struct {
	// Err is why the request is refused, nil for one that is let in.
	Err   *call.Error
	taken resilience.Taken // of the limit nearest to its end, where told
	told  bool
}

// Admit counts a request against the limits on what the workload receives, but for those that ask for claims. peer is the
// identity that mutual TLS has proved of the caller, "" for nobody. It neither blocks nor keeps q, and it does nothing where
// there are none.
func (e *Engine) Admit(q *call.Request, peer string) Admission {
	return e.count(e.state.Load().inbound, q, resilience.Known{Peer: peer}, Admission{})
}

// AdmitClaims goes on from Admit with the limits that ask for claims, when policies have let the request in; token is nil for a
// request without one.
func (e *Engine) AdmitClaims(a Admission, q *call.Request, peer string, token *jwt.Token) Admission {
	known := resilience.Known{Peer: peer}
	if token != nil {
		known.Token = token
	}
	return e.count(e.state.Load().claimed, q, known, a)
}

// count counts a request that was let in so far.
func (e *Engine) count(limits []limit, q *call.Request, known resilience.Known, a Admission) Admission {
	if len(limits) == 0 {
		return a
	}
	now, least := e.now(), math.MaxInt
	if a.told {
		least = a.taken.Remaining()
	}
	for i := range limits {
		l := &limits[i]
		if !l.def.Takes(q, nil) {
			continue
		}
		t := l.limiter.Take(now, q, known)
		if !t.OK {
			a.taken, a.told = t, l.def.Headers
			a.Err = &call.Error{Reason: call.ReasonRateLimited, Host: call.Printable(q.Authority), Detail: l.reached(),
				RetryAfter: t.RetryAfter(), GRPC: l.grpc()}
			return a
		}
		if l.def.Headers {
			if n := t.Remaining(); n < least {
				a.taken, a.told, least = t, true, n
			}
		}
	}
	return a
}

// Limits reports whether there are limits on what the workload receives, and whether some ask for claims.
func (e *Engine) Limits() (limits, claims bool) {
	st := e.state.Load()
	return len(st.inbound) > 0, len(st.claimed) > 0
}

// Header writes what an answer's header says of the limits: Envoy's x-ratelimit-limit, -remaining and -reset where the
// limit's Headers say so, the time in seconds, and of a refused request what RefusalHeader writes.
func (a *Admission) Header(h call.HeaderEditor) {
	if a.told {
		h.Set(rateLimitLimit, strconv.Itoa(a.taken.Burst))
		h.Set(rateLimitRemaining, strconv.Itoa(a.taken.Remaining()))
		h.Set(rateLimitReset, strconv.FormatInt(seconds(a.taken.Reset()), 10))
	}
	if a.Err != nil {
		RefusalHeader(h, a.Err)
	}
}

// Tells reports whether Header has something to write.
func (a *Admission) Tells() bool { return a.told || a.Err != nil }

// admit counts a request of net/http's, and answers it where it is one too many.
func (h *handler) admit(w http.ResponseWriter, r *http.Request, header http.Header) (a Admission, ok bool) {
	if limits, _ := h.in.engine.Limits(); !limits {
		return a, true
	}
	var q call.Request
	received(&q, r, header)
	a = h.in.engine.Admit(&q, CallerFrom(r.Context()).Principal())
	return a, a.answer(w, r)
}

// admitClaims is admit for the limits that ask for claims.
func (h *handler) admitClaims(w http.ResponseWriter, r *http.Request, header http.Header, a Admission, t *jwt.Token) bool {
	if _, claims := h.in.engine.Limits(); !claims {
		return true
	}
	var q call.Request
	received(&q, r, header)
	a = h.in.engine.AdmitClaims(a, &q, CallerFrom(r.Context()).Principal(), t)
	return a.answer(w, r)
}

// answer tells of the limits, and answers a request that is one too many.
func (a *Admission) answer(w http.ResponseWriter, r *http.Request) (admitted bool) {
	if a.Err != nil {
		a.refuse(w, r)
		return false
	}
	a.Header(call.HTTPHeaders(w.Header()))
	return true
}

// received shows a request that net/http has received, with that header, to the matchers, without copying it.
func received(q *call.Request, r *http.Request, header http.Header) {
	q.Method, q.Scheme, q.Authority, q.Query = r.Method, "http", r.Host, r.URL.RawQuery
	if r.TLS != nil {
		q.Scheme = "https"
	}
	q.Host, q.Port, _ = splitHost(r.Host)
	q.Path, _ = call.CanonicalPath(rawPath(r.URL))
	q.Headers, q.Protocol = call.HTTPHeaders(header), protocolName(r)
	q.Source = sourceAddr(r.RemoteAddr)
}

// protocolName gives the version of HTTP as Envoy writes it.
func protocolName(r *http.Request) string {
	if r.ProtoMajor == 2 {
		return "HTTP/2"
	}
	return r.Proto
}

// sourceAddr reads http.Request.RemoteAddr.
func sourceAddr(remote string) netip.Addr {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}

// BodyLimited is Envoy's body of an answer to a request that is one too many.
const BodyLimited = "local_rate_limited"

// refuse answers a request that is one too many, as Envoy's local rate limit filter does. Who speaks gRPC gets a
// trailers-only answer.
func (a *Admission) refuse(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	a.Header(call.HTTPHeaders(h))
	if speaksGRPC(r.Header) {
		h["Content-Type"] = []string{"application/grpc"}
		h["Grpc-Status"] = []string{strconv.FormatUint(uint64(a.Err.GRPCStatusCode()), 10)}
		h["Grpc-Message"] = []string{BodyLimited}
		h["Content-Length"] = nil // HTTP/2 counts no message where the stream ends with its header
		w.WriteHeader(http.StatusOK)
		return
	}
	h["Content-Type"] = []string{"text/plain"}
	h["Content-Length"] = []string{strconv.Itoa(len(BodyLimited))}
	w.WriteHeader(a.Err.HTTPStatus())
	_, _ = w.Write([]byte(BodyLimited))
}
