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
)

// write tells the decision as a tree: host, rules with why each did or did not match, clusters, endpoints.
func (d Decision) write(w io.Writer) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("%s http://%s%s", d.Method, net.JoinHostPort(d.Host, strconv.Itoa(int(d.Port))), d.Path)
	if d.VirtualHost != "" {
		p("host       %s:%d", d.VirtualHost, d.Port)
	}
	if len(d.Trials) > 0 {
		p("rules")
		for _, t := range d.Trials {
			mark := " "
			if t.Matched {
				mark = "*"
			}
			p("  %s %s", mark, t.Origin)
			p("      %s", t.Match)
			if t.Why != "" {
				p("      no: %s", t.Why)
			}
		}
	}
	if d.Route != "" {
		p("route      %s", d.Route)
	}
	for _, v := range d.Destinations {
		p("cluster    %s  %s of calls%s", v.Cluster, percent(v.Share), v.how())
		if v.Missing != "" {
			p("  missing: %s", v.Missing)
		}
		for _, e := range v.Endpoints {
			p("  endpoint %s%s", e.Address, e.what())
		}
		if len(v.Endpoints) == 0 && v.Missing == "" && !v.Direct {
			p("  no endpoints")
		}
	}
	verdict := d.Verdict
	if d.Flag != "-" {
		verdict += ", flag " + d.Flag
	}
	if d.Why != "" {
		verdict += ": " + d.Why
	}
	p("verdict    %s", verdict)
}

func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*10000)/100, 'f', -1, 64) + " %"
}

func (v DestinationView) how() string {
	switch {
	case v.Missing != "":
		return ""
	case v.Direct:
		return ", sent to the host itself"
	}
	return ", " + v.Balancer + " over " + v.Protocol
}

func (e EndpointView) what() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(e.Labels)) {
		parts = append(parts, k+"="+e.Labels[k])
	}
	if e.Weight != 1 {
		parts = append(parts, "weight "+strconv.FormatUint(uint64(e.Weight), 10))
	}
	if e.Locality != "" {
		parts = append(parts, "in "+e.Locality)
	}
	if e.Workload != "" {
		parts = append(parts, "from WorkloadEntry "+e.Workload)
	}
	if len(parts) == 0 {
		return ""
	}
	return "  " + strings.Join(parts, ", ")
}
