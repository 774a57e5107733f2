package resilience

import (
	"net/http"
	"slices"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// Retry says which attempts are repeated, how often and how fast (HTTPRetry). The zero value repeats
// nothing. It is not changed once in use, and then safe for concurrent use.
type Retry struct {
	Attempts      int       // tries beyond the first; 0 is none
	On            Condition // what is repeated
	Codes         []int     // the status codes of OnRetriableStatusCodes
	Backoff       Backoff
	AvoidPrevious bool // prefer endpoints that this call has not tried (retryIgnorePreviousHosts)
	// PerTry bounds each attempt up to its answer's head, 0 for no bound (perTryTimeout). One that takes longer is a
	// reset: it is repeated for OnReset, OnGatewayError and On5xx.
	PerTry time.Duration
	// Elsewhere sends every third attempt and the one after it to a priority that the call has not tried
	// (retryRemoteLocalities; Envoy, previous_priorities with an update frequency of 2).
	Elsewhere bool
	// Repeats says which requests may be sent twice though their method is not idempotent.
	Repeats Repeats
	// Hedge has an attempt go on whose PerTry has passed, beside the one that is made because of it: the first that is answered well
	// is the call's (Envoy, hedge_on_per_try_timeout). It is for unary RPCs that may be sent twice.
	Hedge bool
}

// Repeats says what makes a request one that may be sent twice, beside its method and the program's word.
type Repeats uint8

const (
	RepeatsNone  Repeats = iota // nothing
	RepeatsKeyed                // a header Idempotency-Key, whoever set it
	RepeatsAll                  // the rule says so of all requests
)

// DefaultRetry is the policy of a mesh whose documents say nothing: two retries on connect-failure,
// refused-stream, unavailable, cancelled and retriable-status-codes without codes, 25 ms to 250 ms apart,
// away from the endpoints already tried (MeshConfig.defaultHttpRetryPolicy since Istio 1.24).
func DefaultRetry() Retry {
	return Retry{
		Attempts:      2,
		On:            OnConnectFailure | OnRefusedStream | OnUnavailable | OnCancelled | OnRetriableStatusCodes,
		Backoff:       Backoff{Base: DefaultBackoffBase, Max: 10 * DefaultBackoffBase},
		AvoidPrevious: true,
	}
}

// Idempotent reports whether a request of the method may be sent twice with the effect of once: GET, HEAD,
// OPTIONS, TRACE, PUT and DELETE (RFC 9110 §9.2.2). The empty method is net/http's GET.
func Idempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// Judge says whether the policy repeats an attempt that ended so: Repeated, NotRetried or NotIdempotent. It counts
// nothing: attempts, budgets and whether the body can be sent again are the caller's to know.
//
// The conditions are Envoy's. Unlike Envoy it repeats a request that is not idempotent only where nothing
// can have happened twice: the endpoint did not process it, or answered by a grpc-status of the rule in a
// trailers-only answer. It never repeats what says nothing of the endpoint (see call.Outcome.Neutral),
// an overload, or a rate limit that the rule does not name.
func (r *Retry) Judge(o *call.Outcome, idempotent bool) Verdict {
	if o.Overloaded || o.RateLimited && r.On&OnEnvoyRateLimited == 0 {
		return NotRetried
	}
	met, safe := Condition(0), idempotent || o.Unprocessed
	switch {
	case o.Reason != call.ReasonNone:
		met = withoutAnswer(o)
		safe = safe || o.Reason == call.ReasonConnect || o.Reason == call.ReasonRefused
	case o.RateLimited:
		met = OnEnvoyRateLimited
		safe = safe || o.GRPCStatus != 0
	case r.On&grpcCondition(o.GRPCStatus) != 0:
		return Repeated
	default:
		met = r.statusCondition(o.Status)
	}
	switch {
	case r.On&met == 0:
		return NotRetried
	case !safe:
		return NotIdempotent
	}
	return Repeated
}

// withoutAnswer gives the conditions that an attempt without an answer meets. Envoy counts every one as a
// reset, and as the 5xx that its caller would see.
func withoutAnswer(o *call.Outcome) Condition {
	on := On5xx | OnGatewayError | OnReset
	switch o.Reason {
	case call.ReasonConnect:
		return on | OnConnectFailure | OnResetBeforeRequest
	case call.ReasonRefused:
		return on | OnRefusedStream
	case call.ReasonReset, call.ReasonTimeout:
		if o.Unprocessed {
			on |= OnResetBeforeRequest
		}
		return on
	case call.ReasonProtocol:
		return on
	}
	return 0 // the caller went away, or the mesh itself answered
}

// statusCondition gives the conditions that an answer of the status meets.
func (r *Retry) statusCondition(status int) Condition {
	var on Condition
	switch {
	case status >= 502 && status <= 504:
		on = On5xx | OnGatewayError
	case status >= 500 && status <= 599:
		on = On5xx
	case status == http.StatusConflict:
		on = OnRetriable4xx
	}
	if r.On&OnRetriableStatusCodes != 0 && slices.Contains(r.Codes, status) {
		on |= OnRetriableStatusCodes
	}
	return on
}

// grpcCondition gives the condition that a trailers-only answer meets; the status is plus one, 0 for none.
func grpcCondition(plusOne uint8) Condition {
	switch plusOne {
	case 1 + 1:
		return OnCancelled
	case 4 + 1:
		return OnDeadlineExceeded
	case 8 + 1:
		return OnResourceExhausted
	case 13 + 1:
		return OnInternal
	case 14 + 1:
		return OnUnavailable
	}
	return 0
}
