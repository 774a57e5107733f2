package transport

import (
	"context"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestPanicsOfThePrograms: what a program's own code panics with in a call reaches the caller, and takes away no place within
// the limits. Bodies are read and HTTP/2 is dialled in goroutines of their own, where a panic ends the program, as with net/http.
func TestPanicsOfThePrograms(t *testing.T) {
	t.Parallel()
	const own = "the program's"
	limits := resilience.Limits{Connections: 1, Pending: 1, Requests: 1}
	panics := func(ctx context.Context, t *testing.T, ask func(context.Context) error) {
		t.Helper()
		for range 3 {
			func() {
				defer func() {
					if p := recover(); p != own {
						t.Errorf("the caller got %v", p)
					}
				}()
				t.Errorf("no panic: %v", ask(ctx))
			}()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := ask(ctx); err != nil {
			t.Errorf("the next call: %v", err)
		}
	}
	for name, trace := range map[string]*httptrace.ClientTrace{
		"GetConn":              {GetConn: func(string) { panic(own) }},
		"GotConn":              {GotConn: func(httptrace.GotConnInfo) { panic(own) }},
		"WroteHeaders":         {WroteHeaders: func() { panic(own) }},
		"WroteRequest":         {WroteRequest: func(httptrace.WroteRequestInfo) { panic(own) }},
		"GotFirstResponseByte": {GotFirstResponseByte: func() { panic(own) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBounded(t, limits, nil, "10.0.0.1:80")
				panics(httptrace.WithClientTrace(t.Context(), trace), t, func(ctx context.Context) error { return b.get(ctx, 0) })
			})
			if trace.GetConn == nil && trace.GotConn == nil {
				return // net/http's
			}
			synctest.Test(t, func(t *testing.T) {
				w := &framedWorld{streams: 100}
				w.start(t, snapshot.Policy{Limits: limits}, "10.0.0.1:80")
				panics(httptrace.WithClientTrace(t.Context(), trace), t, func(ctx context.Context) error { return w.send(ctx, "GET", "/", 0) })
			})
		})
	}
	t.Run("dialer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dialled := 0
			b := newBounded(t, limits, func(string) error {
				if dialled++; dialled <= 3 {
					panic(own)
				}
				return nil
			}, "10.0.0.1:80")
			panics(t.Context(), t, func(ctx context.Context) error { return b.get(ctx, 0) })
		})
	})
}
