package telemetry

import (
	"sync/atomic"
	"time"
)

// An RPCKind is one of gRPC's own metrics of durations (gRFC A66), with the counter of what has started.
type RPCKind uint8

const (
	ClientCall    RPCKind = iota // grpc.client.call.duration
	ClientAttempt                // grpc.client.attempt.started, grpc.client.attempt.duration
	ServerCall                   // grpc.server.call.started, grpc.server.call.duration
)

// GRPCStatusName gives the name of Outcome.GRPC, "" for none.
func GRPCStatusName(g uint8) string {
	if g == 0 || int(g) > len(grpcCodes) {
		return ""
	}
	return grpcCodes[g-1]
}

// grpcCodes are the names of the status codes (gRPC, statuscodes.md).
var grpcCodes = [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

type rpcKey struct {
	kind           RPCKind
	method, target string
}

// RPCs are gRPC's metrics of one method. They are safe for concurrent use.
type RPCs struct {
	key     rpcKey
	started atomic.Uint64
	status  [len(grpcCodes)]atomic.Pointer[latencies]
}

// A latencies is a histogram of durations, in nanoseconds.
type latencies struct {
	sum     atomic.Int64
	buckets [len(seconds) + 1]atomic.Uint64
}

// nanos are seconds in the unit of latencies.
var nanos = func() (t [len(seconds)]uint64) {
	for i, b := range seconds {
		t[i] = uint64(b*1e9 + 0.5)
	}
	return t
}()

// RPC gives the metrics of a method and, at a client, its target: the same each time. The method has to be one that the
// program was built with; "" stands for any other. Where the store has too many they are all one.
func (s *Store) RPC(kind RPCKind, method, target string) *RPCs {
	k := rpcKey{kind, method, target}
	if method == "" {
		k.method = Other
	}
	s.mu.RLock()
	r := s.rpcs[k]
	s.mu.RUnlock()
	if r != nil {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rpcs) >= maxMethods {
		k.method, k.target = Other, Other
	}
	if r = s.rpcs[k]; r == nil {
		r = &RPCs{key: k}
		s.rpcs[k] = r
	}
	return r
}

// maxMethods bounds how many methods and targets are told apart.
const maxMethods = 1000

// Start counts one that begins.
func (r *RPCs) Start() { r.started.Add(1) }

// End counts one that has ended with the status code, whichever number it is.
func (r *RPCs) End(code uint32, took time.Duration) {
	if code >= uint32(len(r.status)) {
		code = 2
	}
	h := r.status[code].Load()
	if h == nil {
		h = new(latencies)
		if !r.status[code].CompareAndSwap(nil, h) {
			h = r.status[code].Load()
		}
	}
	took = max(took, 0)
	h.sum.Add(int64(took))
	h.buckets[bucketOf(uint64(took), nanos[:])].Add(1)
}

func (h *latencies) read() *Distribution {
	d := &Distribution{Bounds: seconds[:], Buckets: make([]uint64, len(h.buckets))}
	for i := range h.buckets {
		d.Buckets[i] = h.buckets[i].Load()
		d.Count += d.Buckets[i]
	}
	d.Sum = time.Duration(h.sum.Load()).Seconds()
	return d
}

// rpcFamilies reads them, under the names that OpenTelemetry's exporter for Prometheus gives them.
func rpcFamilies(all []*RPCs) []Family {
	started := [...]Family{
		ClientAttempt: {Name: "grpc_client_attempt_started_total", Help: "Attempts of RPCs begun.", Kind: Counter},
		ServerCall:    {Name: "grpc_server_call_started_total", Help: "RPCs begun at the server.", Kind: Counter},
	}
	took := [...]Family{
		ClientCall:    {Name: "grpc_client_call_duration_seconds", Help: "How long RPCs took, with all their attempts.", Kind: Histogram},
		ClientAttempt: {Name: "grpc_client_attempt_duration_seconds", Help: "How long attempts of RPCs took.", Kind: Histogram},
		ServerCall:    {Name: "grpc_server_call_duration_seconds", Help: "How long RPCs took at the server.", Kind: Histogram},
	}
	for _, r := range all {
		labels := []Label{{"grpc_method", r.key.method}}
		if r.key.kind != ServerCall {
			labels = append(labels, Label{"grpc_target", r.key.target})
		}
		if f := &started[r.key.kind]; f.Name != "" {
			f.Samples = append(f.Samples, Sample{Labels: labels, Value: float64(r.started.Load())})
		}
		for code := range r.status {
			if h := r.status[code].Load(); h != nil {
				with := append(labels[:len(labels):len(labels)], Label{"grpc_status", grpcCodes[code]})
				took[r.key.kind].Samples = append(took[r.key.kind].Samples, Sample{Labels: with, Distribution: h.read()})
			}
		}
	}
	return append(started[1:], took[:]...)
}
