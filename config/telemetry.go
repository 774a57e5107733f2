package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heddlemesh/mesh/telemetry"
)

// A telemetryPolicy is Istio's telemetry/v1alpha1 Telemetry, written down here as peerAuthentication is. What it says of metrics is
// carried out where that is about the mesh's own, and what it says of traces and access logs.
type telemetryPolicy struct {
	APIVersion opaque        `json:"apiVersion"`
	Kind       opaque        `json:"kind"`
	Metadata   opaque        `json:"metadata"`
	Spec       telemetrySpec `json:"spec"`
	Status     opaque        `json:"status"`
}

type telemetrySpec struct {
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	TargetRef     opaque             `json:"targetRef"`
	TargetRefs    opaque             `json:"targetRefs"`
	Tracing       []telemetryTracing `json:"tracing"`
	AccessLogging []telemetryLogging `json:"accessLogging"`
	Metrics       []telemetryMetrics `json:"metrics"`
}

type telemetryMetrics struct {
	Providers         []telemetryProvider `json:"providers"`
	Overrides         []metricsOverride   `json:"overrides"`
	ReportingInterval opaque              `json:"reportingInterval"`
}

type telemetryProvider struct {
	Name string `json:"name"`
}

type metricsOverride struct {
	Match struct {
		Metric       string `json:"metric"`
		CustomMetric string `json:"customMetric"`
		Mode         string `json:"mode"`
	} `json:"match"`
	Disabled     *bool                  `json:"disabled"`
	TagOverrides map[string]tagOverride `json:"tagOverrides"`
}

type tagOverride struct {
	Operation string `json:"operation"`
	Value     string `json:"value"`
}

// ownProvider is the provider that the mesh's metrics are: Prometheus's text and what else a store goes out by.
const ownProvider = "prometheus"

// istioMetrics are the values of match.metric and what they are here.
var istioMetrics = map[string][]string{
	"ALL_METRICS": {telemetry.RequestCount, telemetry.RequestDuration, telemetry.RequestSize, telemetry.ResponseSize,
		telemetry.RequestMessages, telemetry.ResponseMessages,
		telemetry.ConnsOpened, telemetry.ConnsClosed, telemetry.BytesSent, telemetry.BytesReceived},
	"REQUEST_COUNT":          {telemetry.RequestCount},
	"REQUEST_DURATION":       {telemetry.RequestDuration},
	"REQUEST_SIZE":           {telemetry.RequestSize},
	"RESPONSE_SIZE":          {telemetry.ResponseSize},
	"TCP_OPENED_CONNECTIONS": {telemetry.ConnsOpened}, "TCP_CLOSED_CONNECTIONS": {telemetry.ConnsClosed},
	"TCP_SENT_BYTES": {telemetry.BytesSent}, "TCP_RECEIVED_BYTES": {telemetry.BytesReceived},
	"GRPC_REQUEST_MESSAGES": {telemetry.RequestMessages}, "GRPC_RESPONSE_MESSAGES": {telemetry.ResponseMessages},
}

// workloadModes are the values of match.mode and whose reports they are about.
var workloadModes = map[string][]telemetry.Reporter{
	"CLIENT_AND_SERVER": {telemetry.Source, telemetry.Destination}, "CLIENT": {telemetry.Source}, "SERVER": {telemetry.Destination},
}

func (v *validation) telemetry(s *telemetrySpec) {
	p := fieldPath{"spec"}
	v.labels(p.at("selector", "matchLabels"), s.Selector.MatchLabels)
	for _, f := range []struct {
		name  string
		value opaque
		what  string
	}{
		{"targetRef", s.TargetRef, "the document is about a gateway or a waypoint, which this program is not"},
		{"targetRefs", s.TargetRefs, "the document is about gateways or waypoints, which this program is not"},
	} {
		if f.value.there {
			v.unenforced(p.at(f.name), f.what)
		}
	}
	v.tracing(p.at("tracing"), s.Tracing)
	for i := range s.AccessLogging {
		v.telemetryLogging(p.at("accessLogging", i), &s.AccessLogging[i])
	}
	for i := range s.Metrics {
		m, at := &s.Metrics[i], p.at("metrics", i)
		for j, r := range m.Providers {
			switch r.Name {
			case ownProvider:
			case "":
				v.refuse(at.at("providers", j, "name"), "the provider has no name", "write "+ownProvider)
			default:
				v.unenforced(at.at("providers", j, "name"), "the mesh's metrics go to "+ownProvider+" only, and what is said of others changes nothing")
			}
		}
		for j := range m.Overrides {
			v.metricsOverride(at.at("overrides", j), &m.Overrides[j])
		}
	}
}

func (v *validation) metricsOverride(p fieldPath, o *metricsOverride) {
	at := p.at("match")
	v.enum(at.at("metric"), o.Match.Metric, sortedKeys(istioMetrics)...)
	v.enum(at.at("mode"), o.Match.Mode, sortedKeys(workloadModes)...)
	if o.Match.CustomMetric != "" {
		v.unenforced(at.at("customMetric"), "the mesh has Istio's standard metrics only")
	}
	for _, name := range sortedKeys(o.TagOverrides) {
		tag, at := o.TagOverrides[name], p.at("tagOverrides", name)
		if !isLabelName(name) {
			v.refuseKey(at, "is no name of a label", "write letters, digits and underscores, as Prometheus has them")
		}
		v.enum(at.at("operation"), tag.Operation, "REMOVE", "UPSERT")
		switch _, literal := literalOf(tag.Value); {
		case tag.Operation == "REMOVE":
			if tag.Value != "" {
				v.refuse(at.at("value"), "a label that is removed has no value", "remove it, or write operation: UPSERT")
			}
		case tag.Value == "":
			v.refuse(at, "the label has no value", "write value, or operation: REMOVE")
		case strings.Contains(tag.Value, "request.") || strings.Contains(tag.Value, "response."):
			v.refuseValue(at.at("value"), "makes a label of what a caller is free to write, and series without number",
				`write a text in quotes within quotes, "'shop'"`)
		case !literal:
			v.unenforced(at.at("value"), "a label has a fixed text, and other expressions are not evaluated; this one is left as it is")
		}
	}
}

// isLabelName reports a name that Prometheus has for a label, and that is nobody's own.
func isLabelName(s string) bool {
	if s == "" || s == "le" || s == "quantile" || strings.HasPrefix(s, "__") || len(s) > 128 {
		return false
	}
	for i, c := range s {
		if !(c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && '0' <= c && c <= '9') {
			return false
		}
	}
	return true
}

// literalOf reads a text of CEL, which stands in quotes and has no escapes.
func literalOf(expr string) (text string, ok bool) {
	expr = strings.TrimSpace(expr)
	if len(expr) < 2 || expr[0] != expr[len(expr)-1] || expr[0] != '\'' && expr[0] != '"' {
		return "", false
	}
	text = expr[1 : len(expr)-1]
	return text, !strings.ContainsAny(text, "\\\n"+expr[:1])
}

// telemetryLevels finds the documents that are for the workload: that of the mesh, of the namespace over it, of the workload over
// both; of each the oldest (istio.io, pilot/pkg/model Telemetries.applicableTelemetries).
func (c *compiler) telemetryLevels(docs []*document) (levels telemetryLevels) {
	for _, d := range docs {
		s, ok := d.spec.(*telemetryPolicy)
		if !ok || s.Spec.TargetRef.there || s.Spec.TargetRefs.there {
			continue
		}
		level, labels := 0, s.Spec.Selector.MatchLabels
		switch {
		case len(labels) == 0 && d.key.Namespace == c.root():
		case d.key.Namespace != c.workload.Namespace:
			continue
		case len(labels) == 0:
			level = 1
		case hasLabels(c.workload.Labels, labels):
			level = 2
		default:
			continue
		}
		if first := levels[level]; first != nil {
			c.add(d.finding(Warning, codeDoubtful, false, []any{"metadata", "name"},
				fmt.Sprintf("without effect: %s (%s) is for the same workloads, and older", first.key, first.place("metadata", "name")), "make one of the two"))
			continue
		}
		levels[level] = d
	}
	return levels
}

// metricsView is what Telemetry says of the workload's metrics.
func (c *compiler) metricsView(levels telemetryLevels) *telemetry.View {
	var view telemetry.View
	for _, d := range levels {
		if d != nil {
			d.spec.(*telemetryPolicy).Spec.overrideIn(&view)
		}
	}
	if view.Overrides[telemetry.Source] == nil && view.Overrides[telemetry.Destination] == nil {
		return nil
	}
	return &view
}

// overrideIn puts what the document says over what those above it do.
func (s *telemetrySpec) overrideIn(view *telemetry.View) {
	for i := range s.Metrics {
		m := &s.Metrics[i]
		if len(m.Providers) > 0 && !slices.Contains(m.Providers, telemetryProvider{ownProvider}) {
			continue
		}
		for j := range m.Overrides {
			o := &m.Overrides[j]
			if o.Match.CustomMetric != "" {
				continue
			}
			for _, r := range workloadModes[orElse(o.mode(), "CLIENT_AND_SERVER")] {
				for _, name := range istioMetrics[orElse(o.metric(), "ALL_METRICS")] {
					if view.Overrides[r] == nil {
						view.Overrides[r] = make(map[string]telemetry.Override)
					}
					view.Overrides[r][name] = o.over(view.Overrides[r][name])
				}
			}
		}
	}
}

func (o *metricsOverride) mode() *string   { return given(&o.Match.Mode) }
func (o *metricsOverride) metric() *string { return given(&o.Match.Metric) }

func given(s *string) *string {
	if *s == "" {
		return nil
	}
	return s
}

// over gives what becomes of a metric with this override, before which it was had.
func (o *metricsOverride) over(had telemetry.Override) telemetry.Override {
	had.Disabled = orElse(o.Disabled, had.Disabled)
	for _, name := range sortedKeys(o.TagOverrides) {
		tag := o.TagOverrides[name]
		if tag.Operation == "REMOVE" {
			had.Remove = append(slices.Clip(had.Remove), name)
			continue
		}
		text, ok := literalOf(tag.Value)
		if !ok {
			continue
		}
		had.Remove = slices.DeleteFunc(slices.Clone(had.Remove), func(r string) bool { return r == name })
		set := make(map[string]string, len(had.Set)+1)
		for k, v := range had.Set {
			set[k] = v
		}
		set[name] = text
		had.Set = set
	}
	return had
}
