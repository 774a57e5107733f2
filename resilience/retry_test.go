package resilience_test

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
)

// outcomes are ways in which an attempt ends, each with the tokens that repeat it: always, or only where
// the request is idempotent. Whatever is not named never does. The list of codes is 429 and 503.
var outcomes = []struct {
	name       string
	outcome    call.Outcome
	always     string
	idempotent string
}{
	{"200", call.Outcome{Status: 200}, "", ""},
	{"404", call.Outcome{Status: 404}, "", ""},
	{"409", call.Outcome{Status: 409}, "", "retriable-4xx"},
	{"429 in the list", call.Outcome{Status: 429}, "", "retriable-status-codes"},
	{"499", call.Outcome{Status: 499}, "", ""},
	{"500", call.Outcome{Status: 500}, "", "5xx"},
	{"501", call.Outcome{Status: 501}, "", "5xx"},
	{"502", call.Outcome{Status: 502}, "", "5xx gateway-error"},
	{"503 in the list", call.Outcome{Status: 503}, "", "5xx gateway-error retriable-status-codes"},
	{"504", call.Outcome{Status: 504}, "", "5xx gateway-error"},
	{"505", call.Outcome{Status: 505}, "", "5xx"},
	{"599", call.Outcome{Status: 599}, "", "5xx"},
	{"600", call.Outcome{Status: 600}, "", ""},
	{"503 unprocessed", call.Outcome{Status: 503, Unprocessed: true}, "5xx gateway-error retriable-status-codes", ""},

	{"grpc ok", call.Outcome{Status: 200, GRPCStatus: 0 + 1}, "", ""},
	{"grpc cancelled", call.Outcome{Status: 200, GRPCStatus: 1 + 1}, "cancelled", ""},
	{"grpc unknown", call.Outcome{Status: 200, GRPCStatus: 2 + 1}, "", ""},
	{"grpc deadline-exceeded", call.Outcome{Status: 200, GRPCStatus: 4 + 1}, "deadline-exceeded", ""},
	{"grpc resource-exhausted", call.Outcome{Status: 200, GRPCStatus: 8 + 1}, "resource-exhausted", ""},
	{"grpc aborted", call.Outcome{Status: 200, GRPCStatus: 10 + 1}, "", ""},
	{"grpc internal", call.Outcome{Status: 200, GRPCStatus: 13 + 1}, "internal", ""},
	{"grpc unavailable", call.Outcome{Status: 200, GRPCStatus: 14 + 1}, "unavailable", ""},
	{"grpc unauthenticated", call.Outcome{Status: 200, GRPCStatus: 16 + 1}, "", ""},
	{"grpc unavailable in a 503", call.Outcome{Status: 503, GRPCStatus: 14 + 1}, "unavailable", "5xx gateway-error retriable-status-codes"},

	{"connect", call.Outcome{Reason: call.ReasonConnect, Unprocessed: true}, "5xx gateway-error reset reset-before-request connect-failure", ""},
	{"connect, not marked", call.Outcome{Reason: call.ReasonConnect}, "5xx gateway-error reset reset-before-request connect-failure", ""},
	{"refused", call.Outcome{Reason: call.ReasonRefused, Unprocessed: true}, "5xx gateway-error reset refused-stream", ""},
	{"refused, not marked", call.Outcome{Reason: call.ReasonRefused}, "5xx gateway-error reset refused-stream", ""},
	{"reset", call.Outcome{Reason: call.ReasonReset}, "", "5xx gateway-error reset"},
	{"reset before the request", call.Outcome{Reason: call.ReasonReset, Unprocessed: true}, "5xx gateway-error reset reset-before-request", ""},
	{"stale connection", call.Outcome{Reason: call.ReasonReset, StaleReuse: true}, "", "5xx gateway-error reset"},
	{"timeout", call.Outcome{Reason: call.ReasonTimeout}, "", "5xx gateway-error reset"},
	{"timeout before the request", call.Outcome{Reason: call.ReasonTimeout, Unprocessed: true}, "5xx gateway-error reset reset-before-request", ""},
	{"protocol", call.Outcome{Reason: call.ReasonProtocol}, "", "5xx gateway-error reset"},

	{"rate limited", call.Outcome{Status: 429, RateLimited: true}, "", "envoy-ratelimited"},
	{"rate limited 503", call.Outcome{Status: 503, RateLimited: true}, "", "envoy-ratelimited"},
	{"rate limited unprocessed", call.Outcome{Status: 429, RateLimited: true, Unprocessed: true}, "envoy-ratelimited", ""},
	{"rate limited grpc", call.Outcome{Status: 200, GRPCStatus: 14 + 1, RateLimited: true}, "envoy-ratelimited", ""},
	{"overloaded", call.Outcome{Status: 503, Overloaded: true}, "", ""},
	{"overloaded grpc", call.Outcome{Status: 200, GRPCStatus: 14 + 1, Overloaded: true}, "", ""},
	{"overloaded and rate limited", call.Outcome{Status: 503, Overloaded: true, RateLimited: true}, "", ""},
	{"overloaded, refused", call.Outcome{Reason: call.ReasonRefused, Unprocessed: true, Overloaded: true}, "", ""},

	{"nothing", call.Outcome{}, "", ""},
	{"canceled", call.Outcome{Reason: call.ReasonCanceled, Unprocessed: true}, "", ""},
	{"canceled and rate limited", call.Outcome{Reason: call.ReasonCanceled, RateLimited: true}, "", ""},
	{"no route", call.Outcome{Reason: call.ReasonNoRoute, Unprocessed: true}, "", ""},
	{"no cluster", call.Outcome{Reason: call.ReasonNoCluster, Unprocessed: true}, "", ""},
	{"no endpoint", call.Outcome{Reason: call.ReasonNoEndpoint, Unprocessed: true}, "", ""},
	{"invalid request", call.Outcome{Reason: call.ReasonInvalidRequest, Unprocessed: true}, "", ""},
	{"closed", call.Outcome{Reason: call.ReasonClosed, Unprocessed: true}, "", ""},
}

// TestJudge is every token with every outcome, idempotent and not.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range outcomes {
		always, idempotent := strings.Fields(c.always), strings.Fields(c.idempotent)
		for token, on := range tokens {
			r := resilience.Retry{Attempts: 2, On: on, Codes: []int{429, 503}}
			named := slices.Contains(always, token)
			if got := r.Judge(&c.outcome, false) == resilience.Repeated; got != named {
				t.Errorf("%s on %s, not idempotent: %v", c.name, token, got)
			}
			named = named || slices.Contains(idempotent, token)
			if got := r.Judge(&c.outcome, true) == resilience.Repeated; got != named {
				t.Errorf("%s on %s, idempotent: %v", c.name, token, got)
			}
		}
		if (&resilience.Retry{Attempts: 2, Codes: []int{429, 503}}).Judge(&c.outcome, true) == resilience.Repeated {
			t.Errorf("%s is repeated without a condition", c.name)
		}
	}
}

// TestJudgeNeutral holds the two views of an outcome together.
func TestJudgeNeutral(t *testing.T) {
	t.Parallel()
	r := resilience.Retry{On: ^resilience.Condition(0), Codes: []int{0}}
	for reason := range call.Reason(255) {
		o := call.Outcome{Reason: reason, Unprocessed: true, RateLimited: true}
		if got := r.Judge(&o, true) == resilience.Repeated; got == o.Neutral() && reason != call.ReasonNone {
			t.Errorf("%v: retriable %v, neutral %v", reason, got, o.Neutral())
		}
	}
}

func TestDefaultRetry(t *testing.T) {
	t.Parallel()
	on, codes, err := resilience.ParseRetryOn("connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes")
	if err != nil {
		t.Fatal(err)
	}
	want := resilience.Retry{
		Attempts: 2, On: on, Codes: codes, AvoidPrevious: true,
		Backoff: resilience.Backoff{Base: 25 * time.Millisecond, Max: 250 * time.Millisecond},
	}
	got := resilience.DefaultRetry()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// Istio 1.24 took 503 out.
	if got.Judge(&call.Outcome{Status: 503}, true) == resilience.Repeated {
		t.Error("a 503 is repeated by default")
	}
}

func TestIdempotent(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]bool{
		"": true, http.MethodGet: true, http.MethodHead: true, http.MethodOptions: true, http.MethodTrace: true,
		http.MethodPut: true, http.MethodDelete: true,
		http.MethodPost: false, http.MethodPatch: false, http.MethodConnect: false,
		"get": false, "GET ": false, "PROPFIND": false,
	} {
		if got := resilience.Idempotent(method); got != want {
			t.Errorf("Idempotent(%q) = %v", method, got)
		}
	}
}

func TestRetryAllocatesNothing(t *testing.T) {
	r := resilience.DefaultRetry()
	r.On, r.Codes = ^resilience.Condition(0), []int{429, 503}
	n := testing.AllocsPerRun(100, func() {
		for i := range outcomes {
			r.Judge(&outcomes[i].outcome, true)
		}
		r.Backoff.Wait(3, 1<<60)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkJudge(b *testing.B) {
	r := resilience.DefaultRetry()
	for name, o := range map[string]call.Outcome{
		"answered": {Status: 200},
		"reset":    {Reason: call.ReasonReset},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Judge(&o, true)
			}
		})
	}
}
