package telemetry

import (
	"sync/atomic"
	"time"
)

// An RPCKind is one of gRPC's own metrics of durations (gRFC A66), with the counter of what has started and the sizes.
type RPCKind uint8

const (
	ClientCall    RPCKind = iota // grpc.client.call.duration
	ClientAttempt                // grpc.client.attempt.started, .duration, .{sent,rcvd}_total_compressed_message_size
	ServerCall                   // grpc.server.call.started, .duration, .{sent,rcvd}_total_compressed_message_size
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
	sizes   [len(grpcCodes)]atomic.Pointer[[2]volumes] // sent and received
}

// A latencies is a histogram of durations, in nanoseconds.
type latencies struct {
	sum     atomic.Int64
	buckets [len(seconds) + 1]atomic.Uint64
}

// A volumes is a histogram of sizes, in bytes.
type volumes struct {
	sum     atomic.Uint64
	buckets [len(octets) + 1]atomic.Uint64
}

// nanos are seconds in the unit of latencies.
var nanos = func() (t [len(seconds)]uint64) {
	for i, b := range seconds {
		t[i] = uint64(b*1e9 + 0.5)
	}
	return t
}()

// whole are octets as integers.
var whole = func() (t [len(octets)]uint64) {
	for i, b := range octets {
		t[i] = uint64(b)
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
	h := ofCode(r.status[:], code)
	took = max(took, 0)
	h.sum.Add(int64(took))
	h.buckets[bucketOf(uint64(took), nanos[:])].Add(1)
}

// Sizes counts the bytes of all messages of one that has ended with the status code: as they were sent, compressed or not, without
// what frames them. gRPC has no such metric of a ClientCall.
func (r *RPCs) Sizes(code uint32, sent, received uint64) {
	h := ofCode(r.sizes[:], code)
	h[0].add(sent)
	h[1].add(received)
}

// ofCode gives what is kept of a status code, and makes it where nothing is.
func ofCode[T any](kept []atomic.Pointer[T], code uint32) *T {
	if code >= uint32(len(kept)) {
		code = 2
	}
	h := kept[code].Load()
	if h == nil {
		h = new(T)
		if !kept[code].CompareAndSwap(nil, h) {
			h = kept[code].Load()
		}
	}
	return h
}

func (h *latencies) read() *Distribution {
	return distribution(seconds[:], h.buckets[:], time.Duration(h.sum.Load()).Seconds())
}

func (h *volumes) add(n uint64) {
	h.sum.Add(n)
	h.buckets[bucketOf(n, whole[:])].Add(1)
}

func (h *volumes) read() *Distribution {
	return distribution(octets[:], h.buckets[:], float64(h.sum.Load()))
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
	sizes := [...][2]Family{
		ClientAttempt: {
			{Name: "grpc_client_attempt_sent_total_compressed_message_size_bytes", Help: "Bytes of messages that attempts of RPCs sent.", Kind: Histogram},
			{Name: "grpc_client_attempt_rcvd_total_compressed_message_size_bytes", Help: "Bytes of messages that attempts of RPCs received.", Kind: Histogram},
		},
		ServerCall: {
			{Name: "grpc_server_call_sent_total_compressed_message_size_bytes", Help: "Bytes of messages that RPCs sent at the server.", Kind: Histogram},
			{Name: "grpc_server_call_rcvd_total_compressed_message_size_bytes", Help: "Bytes of messages that RPCs received at the server.", Kind: Histogram},
		},
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
			h := r.status[code].Load()
			if h == nil {
				continue // and no sizes: they are told after the end
			}
			with := append(labels[:len(labels):len(labels)], Label{"grpc_status", grpcCodes[code]})
			took[r.key.kind].Samples = append(took[r.key.kind].Samples, Sample{Labels: with, Distribution: h.read()})
			if v := r.sizes[code].Load(); v != nil {
				for i := range v {
					f := &sizes[r.key.kind][i]
					f.Samples = append(f.Samples, Sample{Labels: with, Distribution: v[i].read()})
				}
			}
		}
	}
	families := append(started[1:], took[:]...)
	for i := range sizes[1:] {
		families = append(families, sizes[i+1][:]...)
	}
	return families
}
