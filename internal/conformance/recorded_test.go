package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
)

// recorded hears what the mesh's metrics record, or its access log is told, one by one.
type recorded chan string

// Request implements mesh.MetricsSink.
func (r recorded) Request(l *telemetry.Labels, o telemetry.Outcome, _ telemetry.Measurement) {
	if l.Reporter == telemetry.Source {
		r <- outcomeText(o)
	}
}

// Log implements mesh.AccessLogger. An answer has details, and what is none a reason.
func (r recorded) Log(e *mesh.AccessLogEntry) {
	if e.Reporter != telemetry.Source {
		return
	}
	text := outcomeText(e.Outcome)
	if e.Start.IsZero() || (e.Method == "" || e.Authority == "") && e.Flags&call.FlagDPE == 0 || e.Flags != 0 && e.Reason == call.ReasonNone && e.Details == "" && e.Code != 0 {
		text += fmt.Sprintf(" in the entry %+v", *e)
	}
	r <- text
}

func outcomeText(o telemetry.Outcome) string {
	return fmt.Sprintf("code %d, grpc %d, flags %v", o.Code, int(o.GRPC)-1, o.Flags)
}

// recordedPatience is how long what has ended may take to be recorded: a caller can hear of the end before the mesh has written
// it down.
const recordedPatience = 30 * time.Second

// check holds the metrics, or the log, against what the callers were told: every call once, with its status and its flags.
func (r recorded) check(t testing.TB, where string, c *Case, results []Result, rpc bool) {
	t.Helper()
	late := time.NewTimer(recordedPatience)
	defer late.Stop()
	var got, want []string
	for range results {
		select {
		case one := <-r:
			got = append(got, one)
		case <-late.C:
			t.Errorf("%s: %d calls of %d", where, len(got), len(results))
			return
		}
	}
	c.settle()
	if n := len(r); n > 0 {
		t.Errorf("%s: %d calls more than the %d that were made: %s", where, n, len(results), <-r)
	}
	for i := range results {
		x := &results[i]
		if x.Flag == cutOff || x.Flag == "" {
			return // neither the caller nor the mesh is sure to be first to see why
		}
		o := telemetry.Outcome{Code: uint16(x.Status), Flags: call.ParseFlags(x.Flag) | call.ParseFlags(x.Flags)}
		switch {
		case x.GRPC == 0 && x.Flag != "-" && c.rpc(): // an error, where a proxy answers
			o.Code, o.GRPC = 200, uint8(call.GRPCCode(x.Status))+1
		case rpc || c.rpc():
			o.Code, o.GRPC = uint16(x.Status), uint8(x.GRPC)+1
		}
		if c.rpc() && x.unsaid && x.Flag == "-" {
			o.GRPC = uint8(codes.Unknown) + 1
		}
		if rpc {
			o.Code = 200
		}
		if x.Flag == "DC" {
			o.Code = 0
		}
		want = append(want, outcomeText(o))
	}
	slices.Sort(got)
	slices.Sort(want)
	if g, w := strings.Join(slices.Compact(slices.Clone(got)), "; "), strings.Join(slices.Compact(slices.Clone(want)), "; "); g != w || !slices.Equal(got, want) {
		t.Errorf("%s: %s, want %s", where, g, w)
	}
}
