package call_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

func TestErrorMessage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  call.Error
		want string
	}{
		"least": {
			call.Error{Reason: call.ReasonNoRoute, Host: "reviews:9080"},
			"mesh: call reviews:9080: no route matches (flag NR)",
		},
		"all": {
			call.Error{
				Reason: call.ReasonConnect, Host: "reviews:9080", Route: "canary[1]",
				Cluster: "outbound|9080|v2|reviews.default.svc.cluster.local", Endpoint: "10.0.0.7:9080",
				Attempts: 3, Detail: "tried twice elsewhere", Err: syscall.ECONNREFUSED,
			},
			"mesh: call reviews:9080: connect failure (flag UF, route canary[1], " +
				"cluster outbound|9080|v2|reviews.default.svc.cluster.local, endpoint 10.0.0.7:9080, 3 attempts): " +
				"tried twice elsewhere: connection refused",
		},
		"one attempt is not told": {
			call.Error{Reason: call.ReasonTimeout, Host: "h:80", Attempts: 1, Err: context.DeadlineExceeded},
			"mesh: call h:80: upstream request timeout (flag UT): context deadline exceeded",
		},
		"detail": {
			call.Error{Reason: call.ReasonNoCluster, Host: "h:80", Cluster: "c", Detail: `no subset "v9"`},
			`mesh: call h:80: the route's destination does not exist (flag NC, cluster c): no subset "v9"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.err.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestErrorIsAndAs(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	err := fmt.Errorf("get: %w", &call.Error{Reason: call.ReasonConnect, Host: "h:80", Err: dial})
	for _, target := range []error{call.ReasonConnect, dial, syscall.ECONNREFUSED} {
		if !errors.Is(err, target) {
			t.Errorf("is not %v", target)
		}
	}
	for _, target := range []error{call.ReasonReset, call.ReasonNone, context.Canceled} {
		if errors.Is(err, target) {
			t.Errorf("is %v", target)
		}
	}
	var ce *call.Error
	var op *net.OpError
	var reason call.Reason
	if !errors.As(err, &ce) || !errors.As(err, &op) || !errors.As(err, &reason) || reason != call.ReasonConnect {
		t.Errorf("as: %v, %v, %v", ce, op, reason)
	}
	if ce.Flag() != "UF" || ce.HTTPStatus() != 503 {
		t.Errorf("flag %s, status %d", ce.Flag(), ce.HTTPStatus())
	}
	canceled := &call.Error{Reason: call.ReasonCanceled, Err: context.Canceled}
	if !errors.Is(canceled, context.Canceled) || !errors.Is(canceled, call.ReasonCanceled) {
		t.Error("a canceled call is not context.Canceled")
	}
	if bare := (&call.Error{Reason: call.ReasonClosed}); !errors.Is(bare, call.ReasonClosed) || errors.Is(bare, nil) {
		t.Error("an error without a cause does not unwrap to its reason alone")
	}
}

func TestErrorTimeout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  call.Error
		want bool
	}{
		"the mesh's":        {call.Error{Reason: call.ReasonTimeout}, true},
		"the caller's":      {call.Error{Reason: call.ReasonCanceled, Err: context.DeadlineExceeded}, true},
		"the dialler's":     {call.Error{Reason: call.ReasonConnect, Err: &net.OpError{Err: os.ErrDeadlineExceeded}}, true},
		"wrapped":           {call.Error{Reason: call.ReasonConnect, Err: fmt.Errorf("x: %w", context.DeadlineExceeded)}, true},
		"canceled":          {call.Error{Reason: call.ReasonCanceled, Err: context.Canceled}, false},
		"refused":           {call.Error{Reason: call.ReasonConnect, Err: syscall.ECONNREFUSED}, false},
		"nothing to say it": {call.Error{Reason: call.ReasonReset}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ne net.Error = &c.err
			if ne.Timeout() != c.want {
				t.Errorf("Timeout() = %v", ne.Timeout())
			}
		})
	}
}

func TestReasonOf(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("a: %w", errors.Join(errors.New("b"), &call.Error{Reason: call.ReasonNoEndpoint}))
	for _, c := range []struct {
		err  error
		want call.Reason
	}{
		{nil, call.ReasonNone}, {errors.New("other"), call.ReasonNone}, {err, call.ReasonNoEndpoint},
	} {
		if got := call.ReasonOf(c.err); got != c.want {
			t.Errorf("ReasonOf(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}
