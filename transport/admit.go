package transport

import (
	"math"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
)

// An Admission is the word of the rate limits on a request that the workload has received.
type Admission struct {
	// Err is why the request is refused, nil for one that is let in.
	Err   *call.Error
	taken resilience.Taken // of the limit nearest to its end, where told
	told  bool
}

// Admit counts a request against the limits on what the workload receives. It neither blocks nor keeps q, and it does
// nothing where there are none.
func (e *Engine) Admit(q *call.Request) Admission {
	var a Admission
	st := e.state.Load()
	if len(st.inbound) == 0 {
		return a
	}
	now, least := e.now(), math.MaxInt
	for i := range st.inbound {
		l := &st.inbound[i]
		if !l.def.Takes(q, nil) {
			continue
		}
		t := l.limiter.Take(now, q, "")
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

// Limits reports whether there are limits on what the workload receives.
func (e *Engine) Limits() bool { return len(e.state.Load().inbound) > 0 }

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
func (h *handler) admit(w http.ResponseWriter, r *http.Request, header http.Header) bool {
	if !h.in.engine.Limits() {
		return true
	}
	var q call.Request
	received(&q, r, header)
	a := h.in.engine.Admit(&q)
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
