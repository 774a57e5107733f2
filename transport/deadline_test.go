package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

func TestToldTimeout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		expected, grpc string
		want           time.Duration
	}{
		"nothing":            {"", "", 0},
		"milliseconds":       {"1500", "", 1500 * time.Millisecond},
		"none":               {"0", "", 0},
		"below none":         {"-1", "", 0},
		"no number":          {"1s", "", 0},
		"more than there is": {"18446744073709551616", "", 0},
		"very long":          {"9223372036854775807", "", longestTold},
		"grpc seconds":       {"", "2S", 2 * time.Second},
		"grpc nanoseconds":   {"", "99999999n", 99999999},
		"grpc hours":         {"", "99999999H", longestTold},
		"grpc minutes":       {"", "3M", 3 * time.Minute},
		"grpc microseconds":  {"", "7u", 7 * time.Microsecond},
		"grpc none":          {"", "0m", 1},
		"grpc nine digits":   {"", "100000000n", 0},
		"grpc without unit":  {"", "100", 0},
		"grpc unit alone":    {"", "S", 0},
		"grpc signed":        {"", "-1S", 0},
		"grpc other unit":    {"", "1s", 0},
		"the shorter, grpc":  {"5000", "2S", 2 * time.Second},
		"the shorter, other": {"1000", "2S", time.Second},
	} {
		h := http.Header{}
		if c.expected != "" {
			h.Set("X-Envoy-Expected-Rq-Timeout-Ms", c.expected)
		}
		if c.grpc != "" {
			h.Set("Grpc-Timeout", c.grpc)
		}
		if got := ToldTimeout(call.HTTPHeaders(h)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// FuzzToldTimeout: whatever is told, it is between nothing and the longest; what we tell is read as no less than it was, and
// hardly more.
func FuzzToldTimeout(f *testing.F) {
	for _, s := range []string{"", "0", "1500", "-1", "2S", "99999999H", "9223372036854775807", "100000000n", "1s"} {
		f.Add(s, s, int64(len(s))*1e9)
	}
	f.Fuzz(func(t *testing.T, expected, grpc string, d int64) {
		h := call.HTTPHeaders{"X-Envoy-Expected-Rq-Timeout-Ms": {expected}, "Grpc-Timeout": {grpc}}
		if got := ToldTimeout(h); got < 0 || got > longestTold {
			t.Errorf("%q, %q: %v", expected, grpc, got)
		}
		if d <= 0 || d > int64(longestTold) {
			return
		}
		text := formatGRPCTimeout(time.Duration(d), nil)
		back := parseGRPCTimeout(text)
		if len(text) > mostGRPCDigits+1 || back < time.Duration(d) || float64(back) > float64(d)*1.00001+1 {
			t.Errorf("%v is told as %s, which is %v", time.Duration(d), text, back)
		}
	})
}

// TestNoCallOutlivesItsParent: what is left of a call's time goes through three services, and each tells the next no more
// than it has; when it is over, every one of them has stopped.
func TestNoCallOutlivesItsParent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		var ended []time.Duration
		began := time.Now()
		var r *rig
		depth := 0
		serve := func(w http.ResponseWriter, req *http.Request) {
			told = append(told, req.Header.Get("X-Envoy-Expected-Rq-Timeout-Ms"))
			if depth++; depth < 3 {
				time.Sleep(300 * time.Millisecond) // its own work
				next, _ := http.NewRequestWithContext(req.Context(), "GET", "http://svc/", nil)
				_, _ = r.rt.RoundTrip(next)
			} else {
				<-req.Context().Done()
			}
			ended = append(ended, time.Since(began))
		}
		handler := NewInbound(NewEngine(Config{Registry: new(discovery.Registry)})).Handler(http.HandlerFunc(serve))
		leaf := func(req *http.Request) (*http.Response, error) {
			ctx, cancel := context.WithCancel(context.Background()) // another process
			defer cancel()
			in := httptest.NewRequestWithContext(ctx, req.Method, "http://svc/", nil)
			in.Header = req.Header.Clone()
			done := make(chan struct{})
			go func() {
				defer close(done)
				handler.ServeHTTP(httptest.NewRecorder(), in)
			}()
			select {
			case <-done:
			case <-req.Context().Done():
			}
			<-done
			if err := req.Context().Err(); err != nil {
				return nil, err
			}
			return &http.Response{StatusCode: 200, ProtoMajor: 1, Body: http.NoBody, Request: req}, nil
		}
		r = newRig(t, snapshot.HTTP1, leafPools{leaf: leaf}, "10.0.0.1:80")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://svc/", nil)
		if _, err := r.rt.RoundTrip(req); err != nil && call.ReasonOf(err) != call.ReasonCanceled { // all end at one moment
			t.Errorf("the caller's own deadline: %v", err)
		}
		if got := strings.Join(told, " "); got != "2000 1700 1400" {
			t.Errorf("told %s", got)
		}
		for i, at := range ended {
			if at > 2*time.Second {
				t.Errorf("service %d ended after %v", len(ended)-i, at)
			}
		}
		if n := r.blamed(); n != 0 {
			t.Errorf("%d attempts are blamed for the caller's deadline", n)
		}
	})
}

// TestToldTimeIsNobodysFault: a request that tells an end is ended, and its endpoint is not to blame: else a caller who tells a
// nanosecond could have every endpoint ejected.
func TestToldTimeIsNobodysFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leaf := func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		r := newRig(t, snapshot.HTTP1, leafPools{leaf: leaf}, "10.0.0.1:80")
		for _, name := range []string{"X-Envoy-Expected-Rq-Timeout-Ms", "Grpc-Timeout"} {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://svc/", nil)
			req.Header.Set(name, map[string]string{"X-Envoy-Expected-Rq-Timeout-Ms": "100", "Grpc-Timeout": "100m"}[name])
			began := time.Now()
			_, err := r.rt.RoundTrip(req)
			if call.ReasonOf(err) != call.ReasonTimeout || time.Since(began) != 150*time.Millisecond {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		}
		if n := r.blamed(); n != 0 {
			t.Errorf("%d attempts are blamed", n)
		}
		// The rule's own is.
		r.route.Timeout = 50 * time.Millisecond
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://svc/", nil)
		req.Header.Set("X-Envoy-Expected-Rq-Timeout-Ms", "100")
		if _, err := r.rt.RoundTrip(req); call.ReasonOf(err) != call.ReasonTimeout || r.blamed() != 1 {
			t.Errorf("%v, %d blamed", err, r.blamed())
		}
	})
}

// TestEndpointHeedsTheToldTime: an endpoint that breaks off when the time is over that the request has told is not to blame,
// and the caller hears that its time is over; before that it is.
func TestEndpointHeedsTheToldTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var after time.Duration
		leaf := func(*http.Request) (*http.Response, error) {
			time.Sleep(after)
			return nil, io.ErrUnexpectedEOF
		}
		r := newRig(t, snapshot.HTTP1, leafPools{leaf: leaf}, "10.0.0.1:80")
		for _, c := range []struct {
			after  time.Duration
			reason call.Reason
			code   uint32
			blamed int
		}{
			{100 * time.Millisecond, call.ReasonTimeout, 4, 0},
			{99 * time.Millisecond, call.ReasonReset, 14, 1},
		} {
			after = c.after
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://svc/", nil)
			req.Header.Set("Grpc-Timeout", "100m")
			_, err := r.rt.RoundTrip(req)
			e, ok := errors.AsType[*call.Error](err)
			if !ok || e.Reason != c.reason || e.GRPCStatusCode() != c.code || int(r.blamed()) != c.blamed {
				t.Errorf("after %v: %v, %d blamed", c.after, err, r.blamed())
			}
		}
	})
}
