package transport

import (
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing"
)

// write tells the decision in the order in which it is made: request, host, each rule and how it fared, route,
// clusters with their endpoints, verdict. What is said stands in one column, headings to its left.
func (d Decision) write(w io.Writer) {
	p := func(heading, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", heading, fmt.Sprintf(format, args...))
	}
	p("request", "%s %s%s", call.Printable(d.Method), net.JoinHostPort(d.Host, strconv.Itoa(int(d.Port))), call.Printable(d.Path))
	if d.VirtualHost != "" {
		p("host", "%s", net.JoinHostPort(d.VirtualHost, strconv.Itoa(int(d.Port))))
		if d.HostOrigin != "" {
			p("", "%s", d.HostOrigin)
		}
	}
	writeRules(p, d.Trials)
	if d.Route != "" {
		p("route", "%s", d.Route)
		if len(d.Trials) == 0 && d.Origin != "" {
			p("", "%s", d.Origin)
		}
	}
	for _, e := range d.Effects {
		p("", "%s", e)
	}
	for i := range d.Destinations {
		d.Destinations[i].write(p)
	}
	p("verdict", "%s", d.verdict())
}

type line func(heading, format string, args ...any)

// writeRules numbers the rules; the matches of one follow each other under its place.
func writeRules(p line, trials []routing.Trial) {
	rule, decided := 0, false
	for i, t := range trials {
		if i == 0 || t.Origin != trials[i-1].Origin || t.Route != trials[i-1].Route {
			rule++
			p("rule "+strconv.Itoa(rule), "%s", t.Origin)
		}
		p("", "if   %s", t.Match)
		switch {
		case t.Matched:
			p("", "yes  it matches")
			decided = true
		case decided:
			p("", "     %s", t.Why)
		default:
			p("", "no   %s", t.Why)
		}
	}
}

func (v *DestinationView) write(p line) {
	p("cluster", "%s", v.Cluster)
	if v.Origin != "" {
		p("", "%s", v.Origin)
	}
	how := percent(v.Share) + " of calls"
	switch {
	case v.Missing != "":
	case v.Direct:
		how += ", sent to the host itself"
	default:
		how += ", " + v.Balancer + ", " + v.Protocol
	}
	p("", "%s", how)
	for _, e := range v.Effects {
		p("", "%s", e)
	}
	switch {
	case v.KeptBy == "":
	case v.KeptAt == "":
		p("", "kept together by %s, which this request has not: an endpoint is drawn at random", v.KeptBy)
	default:
		p("", "kept together by %s: this request's endpoint is %s", v.KeptBy, v.KeptAt)
	}
	if v.From != "" {
		p("", "endpoints are seen from %s", v.From)
	}
	if v.TLS != "" {
		p("", "%s", v.TLS)
	}
	if v.Breaker != "" {
		p("", "%s", v.Breaker)
	}
	for _, s := range []string{v.Outlier, v.Budget, v.Preset} {
		if s != "" {
			p("", "%s", s)
		}
	}
	width := 0
	for i := range v.Endpoints {
		width = max(width, utf8.RuneCountInString(v.Endpoints[i].Address))
	}
	for i := range v.Endpoints {
		e := &v.Endpoints[i]
		p("", "%-*s  %s", width, e.Address, e.what())
	}
	if reason, why := v.fault(); reason != call.ReasonNone {
		p("", "%s (flag %s)", why, reason.Flag())
	}
}

// fault says why calls to the destination are rejected; ReasonNone means that they are not.
func (v *DestinationView) fault() (reason call.Reason, why string) {
	switch {
	case v.Missing != "":
		return call.ReasonNoCluster, v.Missing
	case len(v.Endpoints) == 0 && !v.Direct:
		return call.ReasonNoEndpoint, "no endpoint"
	}
	return call.ReasonNone, ""
}

// verdict adds to a call that is forwarded what share of such calls is not.
func (d Decision) verdict() string {
	s := d.Verdict
	if d.Flag != call.ReasonNone.Flag() {
		s += ", flag " + d.Flag
	}
	if d.Why != "" {
		s += ": " + d.Why
	}
	if d.Verdict == "reject" {
		return s
	}
	for _, r := range []call.Reason{call.ReasonNoCluster, call.ReasonNoEndpoint} {
		var share float64
		for i := range d.Destinations {
			if reason, _ := d.Destinations[i].fault(); reason == r {
				share += d.Destinations[i].Share
			}
		}
		if share > 0 {
			s += "; " + percent(share) + " of calls are rejected, flag " + r.Flag()
		}
	}
	return s
}

func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*10000)/100, 'f', -1, 64) + " %"
}

func (e *EndpointView) what() string {
	parts := []string{"weight " + strconv.FormatUint(uint64(e.Weight), 10)}
	for _, k := range slices.Sorted(maps.Keys(e.Labels)) {
		parts = append(parts, k+"="+e.Labels[k])
	}
	if e.Locality != "" {
		parts = append(parts, "in "+e.Locality)
	}
	switch {
	case e.Unused:
		parts = append(parts, "gets no calls from here")
	case e.Priority != nil:
		parts = append(parts, "priority "+strconv.Itoa(*e.Priority))
	}
	if e.Ejected != nil {
		parts = append(parts, "ejected for "+e.Ejected.Left.Round(time.Millisecond).String()+" more")
	}
	if e.Warming > 0 {
		parts = append(parts, "warming up: "+percent(e.Warming)+" of its weight")
	}
	if e.Workload != "" {
		parts = append(parts, "from "+e.Workload)
	}
	return strings.Join(parts, ", ")
}
