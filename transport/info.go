package transport

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
)

// CallInfo tells the program what became of one call. It is filled in when the call's answer or error is
// returned; read it after that.
type CallInfo struct {
	Host     string // the name called, with the port
	Route    string // the rule that matched, "" where none did
	Cluster  string // outbound|<port>|<subset>|<host>, or PassthroughCluster
	Endpoint string // the last endpoint tried
	Attempts int
	Tried    []string // the endpoint of each attempt, in order, a hundred at most
	Flags    string   // Envoy's response flags beside that of Reason: "DI", "FI" of what was injected, "URX" where no retry was left; "" for none
	// Why says of each attempt, in the order of Tried, why it was or was not followed by another: Unjudged for one that was
	// answered well.
	Why      []resilience.Verdict
	Details  string        // Envoy's response code details of an answer by the rules or of a failure, "" for none
	Reason   call.Reason   // why there was no answer, ReasonNone where there was one
	Duration time.Duration // to the response head

	taken atomic.Bool
}

type captureKey struct{}

// Capture gives a context under which the next call fills in info. Only one call does: a second on the
// same context, concurrent or later, leaves it alone.
func Capture(ctx context.Context, info *CallInfo) context.Context {
	return context.WithValue(ctx, captureKey{}, info)
}

func capture(ctx context.Context) *CallInfo {
	info, _ := ctx.Value(captureKey{}).(*CallInfo)
	if info == nil || info.taken.Swap(true) {
		return nil
	}
	return info
}
