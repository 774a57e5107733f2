package call_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

// TestOutcomeBlame: Istio's outlier detection counts 5xx, and resets and connect failures as such
// (istio-semantics.md §3.5); the caller's doing and our own answers count for nobody (DESIGN.md §3 rule 7).
func TestOutcomeBlame(t *testing.T) {
	t.Parallel()
	const neutral, failed, served = "neutral", "failed", "served"
	for name, c := range map[string]struct {
		outcome call.Outcome
		want    string
	}{
		"nothing":                 {call.Outcome{}, neutral},
		"200":                     {call.Outcome{Status: 200}, served},
		"404":                     {call.Outcome{Status: 404}, served},
		"429":                     {call.Outcome{Status: 429, RateLimited: true}, served},
		"499":                     {call.Outcome{Status: 499}, served},
		"500":                     {call.Outcome{Status: 500}, failed},
		"503":                     {call.Outcome{Status: 503}, failed},
		"503 overloaded":          {call.Outcome{Status: 503, Overloaded: true}, failed},
		"599":                     {call.Outcome{Status: 599}, failed},
		"600":                     {call.Outcome{Status: 600}, served},
		"connect":                 {call.Outcome{Reason: call.ReasonConnect, Unprocessed: true}, failed},
		"no port to connect from": {call.NotConnected(os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)), neutral},
		"no file descriptor":      {call.NotConnected(syscall.EMFILE), neutral},
		"connection refused":      {call.NotConnected(syscall.ECONNREFUSED), failed},
		"reset":                   {call.Outcome{Reason: call.ReasonReset}, failed},
		"refused":                 {call.Outcome{Reason: call.ReasonRefused, Unprocessed: true}, failed},
		"protocol":                {call.Outcome{Reason: call.ReasonProtocol}, failed},
		"timeout":                 {call.Outcome{Reason: call.ReasonTimeout}, failed},
		"reset after a status":    {call.Outcome{Status: 200, Reason: call.ReasonReset}, failed},
		"canceled":                {call.Outcome{Reason: call.ReasonCanceled}, neutral},
		"canceled after a 500":    {call.Outcome{Status: 500, Reason: call.ReasonCanceled}, neutral},
		"no route":                {call.Outcome{Reason: call.ReasonNoRoute}, neutral},
		"no cluster":              {call.Outcome{Reason: call.ReasonNoCluster}, neutral},
		"no endpoint":             {call.Outcome{Reason: call.ReasonNoEndpoint}, neutral},
		"invalid request":         {call.Outcome{Reason: call.ReasonInvalidRequest}, neutral},
		"closed":                  {call.Outcome{Reason: call.ReasonClosed}, neutral},
		"a reason not known":      {call.Outcome{Reason: 250}, neutral},
		"grpc without a status":   {call.Outcome{GRPCStatus: 14 + 1}, failed},
		"grpc ok, without status": {call.Outcome{GRPCStatus: 0 + 1}, served},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := served
			if c.outcome.Failed() {
				got = failed
			}
			if c.outcome.Neutral() {
				if got == failed {
					t.Error("both neutral and failed")
				}
				got = neutral
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// Envoy turns a grpc-status into the HTTP status that outlier detection sees; 5xx are failures.
func TestOutcomeGRPCBlame(t *testing.T) {
	t.Parallel()
	asHTTP := []int{200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500, 500}
	for code, status := range asHTTP {
		o := call.Outcome{Status: 200, GRPCStatus: uint8(code + 1)}
		if got, want := o.Failed(), status >= 500; got != want {
			t.Errorf("grpc-status %d: failed %v, want %v", code, got, want)
		}
	}
}
