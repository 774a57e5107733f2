package proxy

import (
	"log/slog"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/telemetry"
)

// An overload keeps the process within its memory, as Envoy's overload manager does with the resource monitor fixed_heap: from one share of
// the limit on requests are answered with 503 (stop_accepting_requests) and their connections end, from another on new connections are
// closed (reject_incoming_connections). A nil one does neither. It is safe for concurrent use.
type overload struct {
	limit    uint64 // bytes
	used     func() uint64
	log      *slog.Logger
	pressure atomic.Uint64 // thousandths of limit
	stop     chan struct{}
	stopped  chan struct{}
}

const (
	shedFrom   = 850 // thousandths
	rejectFrom = 900
	senseEvery = 50 * time.Millisecond
	sweepEvery = time.Second // while requests are shed
	tellEvery  = time.Second // at the most, of what has changed
)

// newOverload gives nil where there is no limit: limit is bytes, 0 for Go's own (GOMEMLIMIT), negative for none. A GOMEMLIMIT of 0 is none either:
// for Go it means to collect all the time, and nothing can be within it. used gives what of it is taken, nil for what liveMemory does.
func newOverload(limit int64, used func() uint64, log *slog.Logger) *overload {
	if limit == 0 {
		limit = debug.SetMemoryLimit(-1)
	}
	if limit <= 0 || limit == math.MaxInt64 {
		return nil
	}
	if used == nil {
		used = liveMemory()
	}
	o := &overload{limit: uint64(limit), used: used, log: log, stop: make(chan struct{}), stopped: make(chan struct{})}
	o.sense()
	go o.run()
	return o
}

// run looks at the memory until close. While requests are shed hardly anything is allocated, and so nothing collected: it sees to that.
func (o *overload) run() {
	defer close(o.stopped)
	tick := time.NewTicker(senseEvery)
	defer tick.Stop()
	var swept, told time.Time
	said := ""
	for {
		select {
		case <-o.stop:
			return
		case now := <-tick.C:
			if o.sense(); o.sheds() && now.Sub(swept) >= sweepEvery {
				runtime.GC()
				o.sense()
				swept = now
			}
			if state := o.state(); state != said && now.Sub(told) >= tellEvery {
				o.tell(state)
				said, told = state, now
			}
		}
	}
}

// state says what is not done for want of memory, "" for nothing.
func (o *overload) state() string {
	switch {
	case o.rejects():
		return "requests are answered with 503 and new connections are closed"
	case o.sheds():
		return "requests are answered with 503"
	}
	return ""
}

func (o *overload) tell(state string) {
	if state == "" {
		o.log.Info("there is memory again: requests and connections are taken", "limit", o.limit, "percent", o.pressure.Load()/10)
		return
	}
	o.log.Warn("little is left of the memory limit: "+state, "limit", o.limit, "percent", o.pressure.Load()/10)
}

func (o *overload) sense() { o.pressure.Store(o.used() * 1000 / o.limit) }

func (o *overload) close() {
	if o != nil {
		close(o.stop)
		<-o.stopped
	}
}

// sheds reports that requests are answered with 503.
func (o *overload) sheds() bool { return o != nil && o.pressure.Load() >= shedFrom }

// rejects reports that new connections are closed.
func (o *overload) rejects() bool { return o != nil && o.pressure.Load() >= rejectFrom }

// overloaded is the answer to a request that is shed.
func overloaded() LocalReply {
	return LocalReply{Status: http.StatusServiceUnavailable, Flag: "OM", Reason: "overload", Text: "overloaded"}
}

// liveMemory gives the bytes that the limit of Go counts (runtime/debug.SetMemoryLimit), without those that a collection would free.
func liveMemory() func() uint64 {
	const plus = 2
	names := []string{"/memory/classes/total:bytes", "/gc/heap/live:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/heap/free:bytes",
		"/memory/classes/heap/unused:bytes", "/memory/classes/heap/objects:bytes"}
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	return func() uint64 { // by one goroutine at a time
		metrics.Read(samples)
		var n int64
		for i := range samples {
			v := int64(samples[i].Value.Uint64())
			if i >= plus {
				v = -v
			}
			n += v
		}
		return uint64(max(n, 0))
	}
}

// families are by Envoy's names.
func (o *overload) families(yield func(telemetry.Family)) {
	if o == nil {
		return
	}
	gauge := func(name, help string, v float64) {
		f := telemetry.Family{Name: "envoy_overload_envoy_" + name, Help: help, Kind: telemetry.Gauge}
		f.Add(v)
		yield(f)
	}
	active := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge("resource_monitors_fixed_heap_pressure", "Percent of the memory limit that is live.", float64(o.pressure.Load()/10))
	gauge("overload_actions_stop_accepting_requests_active", "Whether requests are answered with 503.", active(o.sheds()))
	gauge("overload_actions_reject_incoming_connections_active", "Whether new connections are closed.", active(o.rejects()))
}
