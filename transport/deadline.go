package transport

import (
	"context"
	"strconv"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// How long a call may take travels with it: a caller tells its callee how long it will wait, by
// x-envoy-expected-rq-timeout-ms (Envoy, router filter) and, of an RPC, by grpc-timeout (gRPC over HTTP/2, Timeout). Whoever
// serves the request makes its own calls within that time. Nobody is trusted with more than shortening what was to be.

// longestTold bounds what a header can say.
const longestTold = 30 * 24 * time.Hour

// ToldTimeout gives how long the sender of the header says that it waits for an answer, 0 for nothing said.
func ToldTimeout(h call.Headers) time.Duration {
	var told time.Duration
	if v, ok := h.Value(expectedTimeout, 0); ok {
		if n, err := strconv.ParseUint(v, 10, 63); err == nil && n > 0 {
			told = min(time.Duration(min(n, uint64(longestTold/time.Millisecond)))*time.Millisecond, longestTold)
		}
	}
	if v, ok := h.Value(grpcTimeout, 0); ok {
		if rpc := parseGRPCTimeout(v); rpc > 0 && (told == 0 || rpc < told) {
			told = rpc
		}
	}
	return told
}

var upgradeField = call.NewName("upgrade")

// withTold gives a context that ends with the time told by a received header. Of a request that asks for another protocol
// nobody can tell how long that is spoken.
func withTold(ctx context.Context, h call.Headers) (context.Context, context.CancelFunc) {
	told := ToldTimeout(h)
	if _, upgrade := h.Value(upgradeField, 0); told == 0 || upgrade {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, told)
}

var grpcUnits = [...]struct {
	letter string
	unit   time.Duration
}{{"n", 1}, {"u", time.Microsecond}, {"m", time.Millisecond}, {"S", time.Second}, {"M", time.Minute}, {"H", time.Hour}}

// mostGRPCDigits is how many digits a grpc-timeout has at most.
const mostGRPCDigits = 8

// parseGRPCTimeout reads one to eight digits and a unit, 0 for anything else. What is shorter than can be, 0n, is a
// nanosecond.
func parseGRPCTimeout(s string) time.Duration {
	if len(s) < 2 || len(s) > mostGRPCDigits+1 {
		return 0
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 63)
	if err != nil {
		return 0
	}
	for _, u := range grpcUnits {
		if s[len(s)-1:] != u.letter {
			continue
		}
		if n > uint64(longestTold/u.unit) {
			return longestTold
		}
		return max(time.Duration(n)*u.unit, 1)
	}
	return 0
}

// formatGRPCTimeout writes d, rounded up to the finest unit that eight digits can say.
func formatGRPCTimeout(d time.Duration, room *call.Room) string {
	const most = 100_000_000
	for _, u := range grpcUnits {
		if n := (d + u.unit - 1) / u.unit; n < most {
			return room.Join(room.Int(int64(n)), u.letter)
		}
	}
	return "99999999H"
}

// toldGrace is how much later than its sender has told a call ends: who still waits then has given up by itself, and is not
// told by us what it says of its own. What the endpoint is told in turn is without it.
const toldGrace = 50 * time.Millisecond

// Heed takes the time that the request's own header tells for a bound of the call, where the rule's is not shorter.
func (c *Call) Heed(h call.Headers) {
	if c.route == nil {
		return
	}
	if c.told = ToldTimeout(h); c.told > 0 {
		c.end = time.Now().Add(c.told)
	}
}

// Until says when all that is left of the call ends, its answer's body included.
func (c *Call) Until(end time.Time) {
	if c.end.IsZero() || end.Before(c.end) {
		c.end = end
	}
}

// Overran reports whether the time that the request itself has told is over. An endpoint that heeds it as well may break off
// from then on, which is a time-out and no fault of its own.
func (c *Call) Overran() bool { return c.told > 0 && !time.Now().Before(c.end) }

// heeded gives a context that counts as ended as soon as the call has overrun, for the judgement of what breaks off.
func (c *Call) heeded(ctx context.Context) context.Context {
	if c.told == 0 {
		return ctx
	}
	return toldContext{ctx, c.end}
}

type toldContext struct {
	context.Context
	end time.Time
}

// Err implements context.Context.
func (c toldContext) Err() error {
	if err := c.Context.Err(); err != nil || time.Now().Before(c.end) {
		return err
	}
	return context.DeadlineExceeded
}

// Late is the outcome of an attempt that the end of the whole call's time has cut off.
func (c *Call) Late() call.Outcome {
	return call.Outcome{Reason: call.ReasonTimeout, Told: c.told > 0 && (c.route.Timeout == 0 || c.told < c.route.Timeout)}
}
