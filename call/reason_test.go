package call_test

import (
	"net/http"
	"regexp"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

// The flags and statuses are those of istio-semantics.md §3.6.
func TestReasons(t *testing.T) {
	t.Parallel()
	want := map[call.Reason]struct {
		name, flag string
		status     int
	}{
		call.ReasonNone:           {"none", "-", 0},
		call.ReasonNoRoute:        {"no_route", "NR", http.StatusNotFound},
		call.ReasonNoCluster:      {"no_cluster", "NC", http.StatusServiceUnavailable},
		call.ReasonNoEndpoint:     {"no_endpoint", "UH", http.StatusServiceUnavailable},
		call.ReasonConnect:        {"connect", "UF", http.StatusServiceUnavailable},
		call.ReasonReset:          {"reset", "UC", http.StatusServiceUnavailable},
		call.ReasonRefused:        {"refused", "UR", http.StatusServiceUnavailable},
		call.ReasonProtocol:       {"protocol", "UPE", http.StatusBadGateway},
		call.ReasonTimeout:        {"timeout", "UT", http.StatusGatewayTimeout},
		call.ReasonCanceled:       {"canceled", "DC", 499},
		call.ReasonInvalidRequest: {"invalid_request", "DPE", http.StatusBadRequest},
		call.ReasonClosed:         {"closed", "LR", http.StatusServiceUnavailable},
	}
	for r, w := range want {
		if r.String() != w.name || r.Flag() != w.flag || r.HTTPStatus() != w.status {
			t.Errorf("%d is %s, %s, %d; want %+v", r, r, r.Flag(), r.HTTPStatus(), w)
		}
	}
}

// TestReasonsAreDistinct walks the whole table, reasons that are not written here yet included.
func TestReasonsAreDistinct(t *testing.T) {
	t.Parallel()
	names, texts := map[string]call.Reason{}, map[string]call.Reason{}
	wellFormed := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	known := 0
	for r := call.Reason(0); r.String() != "unknown" && r < 255; r++ {
		known++
		if other, ok := names[r.String()]; ok {
			t.Errorf("%d and %d are both named %q", r, other, r)
		}
		if other, ok := texts[r.Error()]; ok {
			t.Errorf("%d and %d both read %q", r, other, r.Error())
		}
		names[r.String()], texts[r.Error()] = r, r
		if !wellFormed.MatchString(r.String()) || r.Error() == "" || r.Flag() == "" {
			t.Errorf("%d: name %q, text %q, flag %q", r, r, r.Error(), r.Flag())
		}
		if r != call.ReasonNone && (r.HTTPStatus() < 400 || r.HTTPStatus() > 599) {
			t.Errorf("%v has the status %d", r, r.HTTPStatus())
		}
	}
	if known < 12 {
		t.Errorf("only %d reasons are known: one in the middle is missing from the table", known)
	}
	if r := call.Reason(255); r.String() != "unknown" || r.Flag() != "-" || r.HTTPStatus() != 503 || r.Error() == "" {
		t.Errorf("a number that is no reason is %s, %s, %d", r, r.Flag(), r.HTTPStatus())
	}
}
