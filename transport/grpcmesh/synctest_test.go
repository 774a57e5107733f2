package grpcmesh_test

import (
	"context"
	"errors"
	"net"
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
