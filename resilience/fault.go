package resilience

import (
	"math/bits"
	"time"
)

// PerMillion is the resolution of shares: 1,000,000 is every call, 1 is one in a million (Envoy's
// FractionalPercent with MILLION).
const PerMillion = 1_000_000

// Hits reports whether a call with these random bits is among the share.
func Hits(share uint32, rnd uint64) bool {
	if share == 0 {
		return false
	}
	x, _ := bits.Mul64(rnd, PerMillion) // uniform in [0, 1,000,000)
	return x < uint64(share)
}

// A Fault is what is done to calls on purpose (HTTPFaultInjection; Envoy, HTTP fault filter). Delay and
// abort are drawn independently of each other, the delay first; neither is retried nor limited by a
// time-out.
type Fault struct {
	Delay      time.Duration
	DelayShare uint32 // of calls, per million

	AbortShare uint32 // of calls, per million
	// AbortStatus is the HTTP status of the answer, 0 where AbortGRPC says it.
	AbortStatus int
	// AbortGRPC is the grpc-status plus one, 0 for none. To callers that do not speak gRPC the answer is 200.
	AbortGRPC uint8
}

// Draw decides about one call.
func (f *Fault) Draw(delayBits, abortBits uint64) (delay time.Duration, abort bool) {
	if f == nil {
		return 0, false
	}
	if Hits(f.DelayShare, delayBits) {
		delay = f.Delay
	}
	return delay, Hits(f.AbortShare, abortBits)
}
