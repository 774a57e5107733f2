package mesh

import (
	"context"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// An Error is a call that got no answer from an endpoint. It says why (Reason, Flag), where the call was
// going (Host, Route, Cluster, Endpoint, Attempts) and what caused it (Err): errors.Is and errors.As find
// both the Reason and the cause.
type Error = call.Error

// A Reason says why a call got no answer. It is an error: errors.Is(err, mesh.ReasonNoRoute).
type Reason = call.Reason

// The reasons; each comment gives Envoy's response flag.
const (
	ReasonNone           = call.ReasonNone           // there was an answer
	ReasonNoRoute        = call.ReasonNoRoute        // NR: the host is known, no rule matches
	ReasonNoCluster      = call.ReasonNoCluster      // NC: the rule's destination does not exist
	ReasonNoEndpoint     = call.ReasonNoEndpoint     // UH: the cluster has no endpoint
	ReasonUnknownHost    = call.ReasonUnknownHost    // UH: the host is not in the registry (WithOutboundTrafficPolicy)
	ReasonConnect        = call.ReasonConnect        // UF: the endpoint could not be connected to
	ReasonReset          = call.ReasonReset          // UC: the connection ended before an answer
	ReasonRefused        = call.ReasonRefused        // UR: the endpoint refused the stream
	ReasonProtocol       = call.ReasonProtocol       // UPE: the answer broke its protocol
	ReasonTimeout        = call.ReasonTimeout        // UT: a time-out of the mesh expired
	ReasonCanceled       = call.ReasonCanceled       // DC: the caller gave up or its own deadline passed
	ReasonInvalidRequest = call.ReasonInvalidRequest // DPE: the request has no safe spelling, or cannot be sent as it is
	ReasonClosed         = call.ReasonClosed         // LR: the mesh is closed
	ReasonOverflow       = call.ReasonOverflow       // UO: a limit of the cluster is reached
	ReasonRateLimited    = call.ReasonRateLimited    // RL: a RateLimit of the configuration is reached
	ReasonCircuitOpen    = call.ReasonCircuitOpen    // UO: the circuit breaker of a ResiliencePolicy is open
)

// ReasonOf gives the reason of a call's error, ReasonNone where err is nil or not the mesh's.
func ReasonOf(err error) Reason { return call.ReasonOf(err) }

// CallInfo tells what became of one call: rule, cluster, endpoint, attempts.
type CallInfo = transport.CallInfo

// Capture gives a context under which the next call fills in info; read it when the call has returned. A
// second call on the same context leaves it alone.
func Capture(ctx context.Context, info *CallInfo) context.Context {
	return transport.Capture(ctx, info)
}

// ContextWithoutRetry gives a context whose calls are tried once, whatever their rules say.
func ContextWithoutRetry(ctx context.Context) context.Context { return transport.WithoutRetry(ctx) }

// ContextWithIdempotencyKey gives a context whose calls may be sent twice with the effect of once, whatever their method:
// the endpoint has to tell repetitions by the key, which is sent as Idempotency-Key unless the request has that header
// already. So it is for one operation, not for a whole program. "" takes the key of an outer context away.
func ContextWithIdempotencyKey(ctx context.Context, key string) context.Context {
	return transport.WithIdempotencyKey(ctx, key)
}
