package resilience_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/resilience"
)

// tokens are those that Istio's validation knows, with our constants.
var tokens = map[string]resilience.Condition{
	"5xx":                        resilience.On5xx,
	"gateway-error":              resilience.OnGatewayError,
	"reset":                      resilience.OnReset,
	"reset-before-request":       resilience.OnResetBeforeRequest,
	"connect-failure":            resilience.OnConnectFailure,
	"refused-stream":             resilience.OnRefusedStream,
	"retriable-4xx":              resilience.OnRetriable4xx,
	"retriable-status-codes":     resilience.OnRetriableStatusCodes,
	"retriable-headers":          resilience.OnRetriableHeaders,
	"envoy-ratelimited":          resilience.OnEnvoyRateLimited,
	"http3-post-connect-failure": resilience.OnHTTP3PostConnectFailure,
	"cancelled":                  resilience.OnCancelled,
	"deadline-exceeded":          resilience.OnDeadlineExceeded,
	"internal":                   resilience.OnInternal,
	"resource-exhausted":         resilience.OnResourceExhausted,
	"unavailable":                resilience.OnUnavailable,
}

func TestEveryTokenIsItsOwnBit(t *testing.T) {
	t.Parallel()
	var all resilience.Condition
	for token, want := range tokens {
		on, codes, err := resilience.ParseRetryOn(token)
		if on != want || len(codes) != 0 || err != nil {
			t.Errorf("ParseRetryOn(%q) = %v, %v, %v", token, on, codes, err)
		}
		if want.String() != token {
			t.Errorf("%q prints as %q", token, want.String())
		}
		if all&want != 0 {
			t.Errorf("%q shares its bit with another", token)
		}
		all |= want
	}
	if got := strings.Count(all.String(), ",") + 1; got != len(tokens) {
		t.Errorf("all conditions print as %d tokens, want %d: %s", got, len(tokens), all)
	}
}

func TestParseRetryOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in    string
		on    string
		codes []int
	}{
		"nothing":         {"", "", nil},
		"Istio's default": {"connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "connect-failure,refused-stream,retriable-status-codes,cancelled,unavailable", nil},
		"a code":          {"503", "retriable-status-codes", []int{503}},
		"codes sorted":    {"reset,504,429,503,429", "reset,retriable-status-codes", []int{429, 503, 504}},
		"repeated":        {"5xx,5xx", "5xx", nil},
		"edges":           {"100,599", "retriable-status-codes", []int{100, 599}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on, codes, err := resilience.ParseRetryOn(c.in)
			if err != nil || on.String() != c.on || !slices.Equal(codes, c.codes) {
				t.Errorf("got %q, %v, %v; want %q, %v", on, codes, err, c.on, c.codes)
			}
		})
	}
}

func TestParseRetryOnErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in      string
		token   string
		offset  int
		nearest string // the first of them
		some    bool   // not all
	}{
		"misspelt":          {"5xx,conect-failure", "conect-failure", 4, "connect-failure", true},
		"other word":        {"reset,connection-failure", "connection-failure", 6, "connect-failure", true},
		"upper case":        {"5XX", "5XX", 0, "5xx", true},
		"underscores":       {"gateway_error", "gateway_error", 0, "gateway-error", true},
		"one l":             {"canceled", "canceled", 0, "cancelled", true},
		"space after comma": {"5xx, reset", " reset", 4, "reset", true},
		"space at the end":  {"5xx ", "5xx ", 0, "5xx", true},
		"unlike any":        {"whenever", "whenever", 0, "5xx", false},
		"empty in between":  {"5xx,,reset", "", 4, "5xx", false},
		"trailing comma":    {"5xx,", "", 4, "5xx", false},
		"comma alone":       {",", "", 0, "5xx", false},
		"code too small":    {"99", "99", 0, "5xx", false},
		"code too large":    {"600", "600", 0, "5xx", false},
		"signed code":       {"+50", "+50", 0, "5xx", false},
		"leading zero":      {"0503", "0503", 0, "5xx", false},
		"other digits":      {"5٣3", "5٣3", 0, "5xx", false},
		"very long":         {strings.Repeat("reset", 10_000), strings.Repeat("reset", 10_000), 0, "5xx", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on, codes, err := resilience.ParseRetryOn(c.in)
			var re *resilience.RetryOnError
			if !errors.As(err, &re) || on != 0 || codes != nil {
				t.Fatalf("got %v, %v, %v; want a RetryOnError and nothing else", on, codes, err)
			}
			if re.Token != c.token || re.Offset != c.offset {
				t.Errorf("token %q at %d, want %q at %d", re.Token, re.Offset, c.token, c.offset)
			}
			if re.Nearest[0] != c.nearest || (len(re.Nearest) < len(tokens)) != c.some {
				t.Errorf("nearest %q, want %q first, part of all: %v", re.Nearest, c.nearest, c.some)
			}
			if len(err.Error()) > 600 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestRetryOnErrorMessage(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"5xx,gateway_error": `retryOn: "gateway_error" at byte 4 is no retry condition and no status code from 100 to 599: did you mean gateway-error`,
		"reset, internal":   `retryOn: " internal" at byte 6 is no retry condition and no status code from 100 to 599: no spaces are allowed; one of internal`,
		"reset,":            `retryOn: empty token at byte 6: separate tokens by single commas`,
	} {
		if _, _, err := resilience.ParseRetryOn(in); err == nil || err.Error() != want {
			t.Errorf("ParseRetryOn(%q):\n got %v\nwant %s", in, err, want)
		}
	}
}

func FuzzParseRetryOn(f *testing.F) {
	for token := range tokens {
		f.Add(token)
	}
	for _, s := range []string{"", ",", "503", "5xx,503,429", "5xx, reset", "reset,,reset", "599,100", "\x00", "retriable-4xx,,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		on, codes, err := resilience.ParseRetryOn(s)
		if err != nil {
			var re *resilience.RetryOnError
			if !errors.As(err, &re) || !strings.HasPrefix(s[re.Offset:], re.Token) || len(re.Nearest) == 0 {
				t.Fatalf("%q: the error does not fit: %#v", s, err)
			}
			return
		}
		// Printed and read again it is the same, and printing is stable.
		again := on.String()
		for _, code := range codes {
			again += "," + strconv.Itoa(code)
		}
		on2, codes2, err := resilience.ParseRetryOn(again)
		if err != nil || on2 != on || !slices.Equal(codes2, codes) {
			t.Fatalf("%q printed as %q reads as %v, %v, %v", s, again, on2, codes2, err)
		}
		if !slices.IsSorted(codes) || len(codes) > 0 && on&resilience.OnRetriableStatusCodes == 0 {
			t.Fatalf("%q: codes %v with %v", s, codes, on)
		}
	})
}
