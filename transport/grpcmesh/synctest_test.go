package grpcmesh_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/heddlemesh/mesh"
)

// TestInFakeTime: the driver holds nothing that keeps a synctest bubble's clock from moving, so that
// meshtest can carry it; and what takes long takes its time.
func TestInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(64 << 10)
		e := newEcho("e")
		e.answer = func(ctx context.Context, text string) (string, error) {
			if text != "slow" {
				return "e", nil
			}
			<-ctx.Done()
			return "", ctx.Err()
		}
		go e.srv.Serve(l)
		defer e.srv.Stop()
		m := newMesh(t, service("10.0.0.1:1", "10.0.0.2:1"), mesh.WithDialer(func(ctx context.Context, _, addr string) (net.Conn, error) {
			if addr == "10.0.0.2:1" {
				<-ctx.Done() // lost packets
				return nil, syscall.ETIMEDOUT
			}
			return l.DialContext(ctx)
		}))
		cc := dial(t, m, "echo:9080")

		// One of the two endpoints cannot be reached; the connect time-out is 10 s.
		began := time.Now()
		for range 4 {
			if got, err := ask(t.Context(), cc, who); err != nil || got != "e" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("four calls took %v: one of them should have waited for the connect time-out", took)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		began = time.Now()
		_, err := askText(ctx, cc, "slow")
		if took := time.Since(began); status.Code(err) != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) || took != 7*time.Second {
			t.Errorf("%v after %v", err, took)
		}

		// grpc-go's own idle time-out is 30 min.
		<-time.After(2 * time.Hour)
		if s := cc.GetState(); s != connectivity.Idle {
			t.Errorf("after two hours the channel is %v", s)
		}
		if got, err := ask(t.Context(), cc, who); err != nil || got != "e" {
			t.Errorf("%q, %v", got, err)
		}
		cc.Close()
		m.Close()
	})
}

// TestConnectionsEnd: the connections of a channel end by the policy's times, and never under a call.
func TestConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(64 << 10)
		e := newEcho("e")
		e.answer = func(_ context.Context, text string) (string, error) {
			wait, _ := time.ParseDuration(text)
			time.Sleep(wait)
			return "e", nil
		}
		go e.srv.Serve(l)
		defer e.srv.Stop()
		var dials atomic.Int64
		policy := func(pool string) string {
			return strings.Replace(service("10.0.0.1:1"), "ROUND_ROBIN}", "ROUND_ROBIN}, connectionPool: {"+pool+"}", 1)
		}
		m := newMesh(t, policy("http: {idleTimeout: 10s}, tcp: {maxConnectionDuration: 60s}"), mesh.WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
			dials.Add(1)
			return l.DialContext(ctx)
		}))
		cc := dial(t, m, "echo:9080")
		call := func(what, takes string, want int64) {
			t.Helper()
			if got, err := askText(t.Context(), cc, takes); err != nil || got != "e" || dials.Load() != want {
				t.Fatalf("%s: %q, %v, %d connections, want %d", what, got, err, dials.Load(), want)
			}
			synctest.Wait()
		}
		call("the first", "0s", 1)
		time.Sleep(9 * time.Second)
		call("soon", "0s", 1)
		time.Sleep(9 * time.Second)
		call("soon again", "20s", 1) // longer than it may be idle
		time.Sleep(9 * time.Second)
		call("after a long one", "0s", 1)
		time.Sleep(11 * time.Second)
		call("after a pause", "0s", 2)
		call("one that outlives the connection's age", "61s", 2)
		call("and the next", "0s", 3)
		if err := m.Apply(t.Context(), []byte(policy("http: {idleTimeout: 100s}"))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(90 * time.Second)
		call("under another policy", "0s", 3)
		time.Sleep(101 * time.Second)
		call("idle under that", "0s", 4)
		cc.Close()
		m.Close()
	})
}
