package resilience

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// Outlier says when an endpoint is ejected and for how long (DestinationRule trafficPolicy.outlierDetection; Envoy,
// outlier_detection_impl.cc). It is not changed once in use, and then safe for concurrent use.
type Outlier struct {
	// Failures in a row that eject, 0 for never: any 5xx, 502 to 504 alone, and failures to get an answer, which count
	// apart where SplitLocal says so and otherwise as 503 or, for time-outs, 504.
	Consecutive5xx, ConsecutiveGateway, ConsecutiveLocal uint32
	SplitLocal                                           bool
	// Codes are the statuses that are failures, in the place of 5xx; nil for that
	// (outlierDetection.outlierDetectionHttpErrorCodes). Answers are judged by their HTTP status alone then.
	Codes []int

	Interval     time.Duration // endpoints come back at multiples of it; 10 s where it is not positive
	BaseEjection time.Duration // of the first ejection, twice that of the second; 30 s where it is not positive
	MaxPercent   uint8         // of the endpoints that may be out at a time
	// AlwaysOne lets one endpoint out whatever MaxPercent says of it (Envoy's always_eject_one_host).
	AlwaysOne bool
}

// Istio's defaults, which are Envoy's.
const (
	DefaultConsecutive5xx     = 5
	DefaultConsecutiveLocal   = 5
	DefaultOutlierInterval    = 10 * time.Second
	DefaultBaseEjection       = 30 * time.Second
	DefaultMaxEjectionPercent = 10

	// longestEjection bounds what repeated ejections add up to (max_ejection_time), unless BaseEjection is longer.
	longestEjection = 300 * time.Second
)

// Same reports whether both eject alike. nil is none.
func (p *Outlier) Same(o *Outlier) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.Consecutive5xx == o.Consecutive5xx && p.ConsecutiveGateway == o.ConsecutiveGateway &&
		p.ConsecutiveLocal == o.ConsecutiveLocal && p.SplitLocal == o.SplitLocal && p.Interval == o.Interval &&
		p.BaseEjection == o.BaseEjection && p.MaxPercent == o.MaxPercent && p.AlwaysOne == o.AlwaysOne &&
		slices.Equal(p.Codes, o.Codes)
}

// String says for people what ejects an endpoint, for how long and how many; "" for nothing.
func (p *Outlier) String() string {
	if p == nil {
		return ""
	}
	counts, gateway := "5xx", "502, 503 or 504"
	if p.Codes != nil {
		counts = strings.Trim(fmt.Sprint(p.Codes), "[]")
	}
	if !p.SplitLocal {
		counts, gateway = counts+" or no answer", gateway+" or no answer"
	}
	var when []string
	for _, c := range []struct {
		count uint32
		what  string
	}{{p.Consecutive5xx, counts}, {p.ConsecutiveGateway, gateway}, {p.ConsecutiveLocal, "no answer"}} {
		if c.count > 0 {
			when = append(when, fmt.Sprintf("%d times %s", c.count, c.what))
		}
	}
	if len(when) == 0 {
		return "outlier detection: off"
	}
	most := fmt.Sprintf("%d %% of the endpoints at most", p.MaxPercent)
	if p.AlwaysOne {
		most += ", one in any case"
	}
	return fmt.Sprintf("outlier detection: out for %v after %s in a row; %s", p.base(), strings.Join(when, ", "), most)
}

// Streaks are an endpoint's failures in a row, by kind. The zero value has none. They are safe for concurrent use; where
// attempts end at the same moment one that was served may or may not end a streak that the others lengthen.
type Streaks struct{ any5xx, gateway, local atomic.Uint32 }

// Note counts what an attempt says of the endpoint. It reports whether a streak has reached its threshold, which ends that
// streak: where the endpoint cannot be ejected now it takes as many failures again (Envoy,
// DetectorImpl::onConsecutiveErrorWorker). A neutral outcome counts for nothing. It takes no lock and does not allocate.
func (p *Outlier) Note(s *Streaks, o *call.Outcome) (reached bool) {
	code := o.Code()
	if code == 0 {
		return false
	}
	if p.SplitLocal {
		if o.Reason != call.ReasonNone {
			return lengthen(&s.local, p.ConsecutiveLocal)
		}
		end(&s.local)
	}
	if p.Codes != nil && o.Reason == call.ReasonNone {
		code = p.coded(o.Status)
	}
	if code < 500 || code > 599 {
		end(&s.any5xx)
		end(&s.gateway)
		return false
	}
	if code >= 502 && code <= 504 {
		reached = lengthen(&s.gateway, p.ConsecutiveGateway)
	} else {
		end(&s.gateway)
	}
	return lengthen(&s.any5xx, p.Consecutive5xx) || reached
}

// coded is what a status counts as where Codes say what is a failure.
func (p *Outlier) coded(status int) int {
	switch {
	case !slices.Contains(p.Codes, status):
		return 200
	case status >= 500 && status <= 599:
		return status
	}
	return 500
}

func lengthen(streak *atomic.Uint32, threshold uint32) (reached bool) {
	if threshold == 0 || streak.Add(1) < threshold {
		return false
	}
	streak.Store(0)
	return true
}

// end does not write where there is nothing to end.
func end(streak *atomic.Uint32) {
	if streak.Load() != 0 {
		streak.Store(0)
	}
}

// Forget ends all streaks, as release does.
func (s *Streaks) Forget() {
	end(&s.any5xx)
	end(&s.gateway)
	end(&s.local)
}

// Allows reports whether one more endpoint may be ejected of a pool of which some are.
func (p *Outlier) Allows(ejected, pool int) bool {
	return p.AlwaysOne && ejected == 0 || 100*(ejected+1) <= int(p.MaxPercent)*pool
}

// An Ejection is an endpoint's history of ejections. The zero value is one that never was. It is not safe for concurrent
// use. Times are those of one clock, whose zero the sweeps count from.
type Ejection struct {
	Out   bool
	Times int           // how often of late: each sweep that finds the endpoint in takes one off
	Since time.Duration // the beginning of the last one
	back  time.Duration // the sweep that ended it
}

// Eject begins an ejection. start is when the sweeps began.
func (p *Outlier) Eject(e *Ejection, start, now time.Duration) {
	if e.Times > 0 {
		e.Times = max(0, e.Times-int(min(p.sweeps(start, now)-p.sweeps(start, e.back), math.MaxInt32)))
	}
	if base := p.base(); times(base, uint64(e.Times)) < max(longestEjection, base)+base {
		e.Times++
	}
	e.Out, e.Since = true, now
}

// Until gives the sweep at which the endpoint comes back: the first after its time is over.
func (p *Outlier) Until(e *Ejection, start time.Duration) time.Duration {
	base := p.base()
	over := e.Since + min(times(base, uint64(max(e.Times, 1))), max(longestEjection, base))
	if over < e.Since { // beyond what a duration can say
		return math.MaxInt64
	}
	interval := p.interval()
	late := (over - start) % interval
	if late == 0 {
		return over
	}
	if over > math.MaxInt64-interval {
		return math.MaxInt64
	}
	return over - late + interval
}

// Release ends an ejection, at the sweep that Until gives, whenever it is asked.
func (p *Outlier) Release(e *Ejection, start time.Duration) {
	e.back, e.Out = p.Until(e, start), false
}

// sweeps counts those up to a moment, that one's included.
func (p *Outlier) sweeps(start, until time.Duration) int64 {
	return int64(max(until-start, 0) / p.interval())
}

func (p *Outlier) base() time.Duration {
	if p.BaseEjection <= 0 {
		return DefaultBaseEjection
	}
	return p.BaseEjection
}

func (p *Outlier) interval() time.Duration {
	if p.Interval <= 0 {
		return DefaultOutlierInterval
	}
	return p.Interval
}
