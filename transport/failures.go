package transport

import (
	"strings"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// KeptFailures is how many failures are kept.
const KeptFailures = 256

// A FailureView is a request that failed, with its whole story: a call that got no answer, or an answer that blames whoever gave
// it; a request that came in and was refused. It has no path, no query and no header, which may be secret.
type FailureView struct {
	At       time.Time       `json:"at"`       // of its end
	Reporter string          `json:"reporter"` // "source" of a call, "destination" of a request that came in
	Method   string          `json:"method"`
	Host     string          `json:"host"`
	Status   int             `json:"status"`         // 0 where nobody was answered
	GRPC     string          `json:"grpc,omitempty"` // of an RPC
	Flags    string          `json:"flags"`          // Envoy's response flags, "-" for none
	Reason   string          `json:"reason,omitempty"`
	Details  string          `json:"details,omitempty"` // Envoy's response code details
	Error    string          `json:"error,omitempty"`
	Route    string          `json:"route,omitempty"`
	Cluster  string          `json:"cluster,omitempty"`
	Endpoint string          `json:"endpoint,omitempty"` // of the last attempt
	Attempts int             `json:"attempts"`
	Earlier  []accesslog.Try `json:"earlier,omitempty"` // attempts before the last, sixteen at most
	Caller   string          `json:"caller,omitempty"`  // the SPIFFE ID that has been proved
	Millis   float64         `json:"durationMs"`
}

// failures are the last ones. It is safe for concurrent use.
type failures struct {
	mu   sync.Mutex    // guards what follows
	all  []FailureView // a ring, once it is full
	next int
}

// failed reports an outcome that Failures has: what is 5xx, an RPC's status that says the same, and whatever Envoy has a flag
// for but what was injected on its own.
func failed(o telemetry.Outcome) bool {
	if o.Code >= 500 || o.Code == 0 || o.Flags&^(call.FlagDI|call.FlagFI) != 0 {
		return true
	}
	switch int(o.GRPC) - 1 {
	case 2, 4, 13, 14, 15: // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS
		return true
	}
	return false
}

// mostText bounds what is kept of one text, in bytes.
const mostText = 512

// kept gives a text as it may stand on a terminal, and in no buffer.
func kept(s string) string { return call.Printable(strings.Clone(s[:min(len(s), mostText)])) }

func (f *failures) add(x *accesslog.Entry) {
	one := FailureView{At: x.Start.Add(x.Duration), Reporter: x.Reporter.String(), Method: kept(x.Method), Host: kept(x.Authority),
		Status: int(x.Code), GRPC: telemetry.GRPCStatusName(x.GRPC), Flags: x.Flags.String(), Details: kept(x.Details), Route: kept(x.Route),
		Cluster: kept(x.Cluster), Endpoint: kept(x.Endpoint), Attempts: x.Attempts, Earlier: x.Tries, Caller: kept(x.Peer),
		Millis: float64(x.Duration.Microseconds()) / 1000}
	if x.Reason != call.ReasonNone {
		one.Reason = x.Reason.String()
	}
	if x.Err != nil {
		one.Error = kept(x.Err.Error())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all) < KeptFailures {
		f.all = append(f.all, one)
		return
	}
	f.all[f.next] = one
	f.next = (f.next + 1) % KeptFailures
}

// Failures lists the last requests that failed, KeptFailures at most, the oldest first.
func (e *Engine) Failures() []FailureView {
	f := &e.failures
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(append([]FailureView{}, f.all[f.next:]...), f.all[:f.next]...)
}
