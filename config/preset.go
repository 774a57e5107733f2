package config

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
)

// A Preset is a set of values for what no document says. Documents go before it: of a rule by field, of a DestinationRule's
// traffic policy by block, as rules and their subsets are merged. docs/resilience.md has the values, and why they are these.
type Preset uint8

const (
	NoPreset   Preset = iota // Istio's own defaults
	Production               // deadlines, time-outs of tries, retry budgets and ejection
)

// presetNames are by Preset.
var presetNames = []string{"none", "production"}

// String gives the name: "none", "production".
func (p Preset) String() string {
	if int(p) < len(presetNames) {
		return presetNames[p]
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (p Preset) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// PresetNames lists the names of all presets.
func PresetNames() []string { return slices.Clone(presetNames) }

// PresetOf gives the preset of that name, ok where there is one.
func PresetOf(name string) (p Preset, ok bool) {
	i := slices.Index(presetNames, name)
	return Preset(max(i, 0)), i >= 0
}

// defaults are what a preset comes to.
type defaults struct {
	preset Preset
	retry  resilience.Retry // what retries without a field have in its place
	// timeout of a rule and perTry of its attempts are one block: 0 for none.
	timeout, perTry time.Duration
	policy          *networking.TrafficPolicy // of clusters, nil for none
}

func (p Preset) defaults() defaults {
	d := defaults{preset: p, retry: resilience.DefaultRetry()}
	if p == Production {
		d.retry.On |= resilience.OnReset
		d.timeout, d.perTry = 15*time.Second, 4*time.Second
		d.policy = &networking.TrafficPolicy{
			OutlierDetection: &networking.OutlierDetection{
				Consecutive_5XxErrors: wrapperspb.UInt32(resilience.DefaultConsecutive5xx),
				Interval:              durationpb.New(resilience.DefaultOutlierInterval),
				BaseEjectionTime:      durationpb.New(resilience.DefaultBaseEjection),
				MaxEjectionPercent:    50,
			},
			RetryBudget: &networking.TrafficPolicy_RetryBudget{
				Percent:             wrapperspb.Double(resilience.DefaultBudgetPercent),
				MinRetryConcurrency: resilience.DefaultBudgetMin,
			},
		}
	}
	return d
}

// bound gives a route the preset's times, and says what of it is the preset's. A document that says how long a call or a try
// may take, without end too, has said both: a time-out of tries must not cut short what a rule gives more time. rule is nil
// where there is none.
func (c *compiler) bound(r *routing.Route, rule *networking.HTTPRoute) {
	d := &c.defaults
	if d.timeout == 0 || len(r.Split) == 0 {
		return
	}
	retries := rule.GetRetries()
	if retries == nil {
		retries = c.mesh.GetDefaultHttpRetryPolicy()
	}
	var given []string
	if rule.GetTimeout() == nil && retries.GetPerTryTimeout() == nil {
		r.Timeout = d.timeout
		given = append(given, "timeout "+d.timeout.String())
		if r.Retry != nil {
			own := *r.Retry
			own.PerTry = d.perTry
			r.Retry = &own
			given = append(given, "perTryTimeout "+d.perTry.String())
		}
	}
	if r.Retry != nil && retries.GetRetryOn() == "" {
		given = append(given, "retryOn reset")
	}
	r.Preset = d.gives(given)
}

// under lays the preset's blocks under a traffic policy, and says which of them count. connectionPool.http.maxRetries has
// said how many retries there may be.
func (d *defaults) under(blocks *networking.TrafficPolicy) (*networking.TrafficPolicy, string) {
	if d.policy == nil {
		return blocks, ""
	}
	out := override(d.policy, blocks, 0)
	var given []string
	if blocks.GetOutlierDetection() == nil {
		given = append(given, "outlierDetection")
	}
	switch {
	case blocks.GetRetryBudget() != nil:
	case blocks.GetConnectionPool().GetHttp().GetMaxRetries() > 0:
		out.RetryBudget = nil
	default:
		given = append(given, "retryBudget")
	}
	return out, d.gives(given)
}

func (d *defaults) gives(fields []string) string {
	if len(fields) == 0 {
		return ""
	}
	return "preset " + d.preset.String() + ": " + strings.Join(fields, ", ")
}
