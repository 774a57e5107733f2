package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/telemetry"
)

// An edge is all requests between two workloads by one protocol.
type edge struct {
	From     string  `json:"from"` // workload.namespace
	To       string  `json:"to"`   // workload.namespace, or the service where no endpoint was found
	Service  string  `json:"service"`
	Protocol string  `json:"protocol"`
	Requests float64 `json:"requests"`
	Failed   float64 `json:"failed"` // of status 5xx, of an RPC that failed for its server, or without an answer
	Secured  bool    `json:"mutualTLS"`
}

func graphCommand() *cobra.Command {
	o := &inspected{}
	output := choice{"text", []string{"text", "json", "dot", "mermaid"}}
	cmd := &cobra.Command{
		Use:   "graph [--admin ADDRESS]... [-o dot|json|mermaid|text]",
		Short: "Draw who calls whom, from the metrics of running processes",
		Long: `graph asks running processes for /stats/prometheus and draws an edge for each caller, callee and protocol, with the number of
requests since they began and the part that failed. What a caller counts goes before what its callee does.` + adminHelp,
		Example: `  heddle graph --admin 127.0.0.1:15000,127.0.0.1:15010
  heddle graph --admin /run/heddle -o dot | dot -Tsvg > mesh.svg`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			processes, err := o.processes()
			if err != nil {
				return err
			}
			var texts []string
			for _, admin := range processes {
				text, err := adminText(cmd.Context(), admin, "/stats/prometheus")
				if err != nil {
					return err
				}
				texts = append(texts, string(text))
			}
			out, err := drawGraph(edgesOf(texts), output.value)
			return errors.Join(err, emit(cmd, out))
		}),
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.admin, "admin", []string{"127.0.0.1:15000"}, "`address` of admin pages, or a directory of their sockets (repeatable)")
	f.VarP(&output, "output", "o", "`format`: text, json, dot for Graphviz, or mermaid")
	return cmd
}

// edgesOf adds up the requests of several processes' metrics, by caller and callee.
func edgesOf(texts []string) []edge {
	var reports [2]map[[3]string]*edge // by reporter
	for side := range reports {
		reports[side] = make(map[[3]string]*edge)
	}
	for _, text := range texts {
		for line := range strings.Lines(text) {
			labels, n, ok := readSample(line, telemetry.RequestCount)
			if !ok {
				continue
			}
			side := 0
			if labels["reporter"] == telemetry.Destination.String() {
				side = 1
			}
			e := edge{From: sideName(labels, "source"), To: sideName(labels, "destination"), Service: labels["destination_service_name"], Protocol: labels["request_protocol"]}
			if e.To == telemetry.Unknown {
				e.To = e.Service
			}
			key := [3]string{e.From, e.To, e.Protocol}
			if reports[side][key] == nil {
				reports[side][key] = &e
			}
			sum := reports[side][key]
			sum.Requests += n
			sum.Secured = sum.Secured || labels["destination_principal"] != telemetry.Unknown && labels["source_principal"] != telemetry.Unknown
			if code := labels["response_code"]; strings.HasPrefix(code, "5") || code == "0" || slices.Contains([]string{"2", "4", "13", "14", "15"}, labels["grpc_response_status"]) {
				sum.Failed += n
			}
		}
	}
	called := make(map[string]bool)
	for _, e := range reports[0] {
		called[e.To+" "+e.Protocol] = true
	}
	all := slices.Collect(maps.Values(reports[0]))
	for key, e := range reports[1] {
		if reports[0][key] == nil && (e.From != telemetry.Unknown || !called[e.To+" "+e.Protocol]) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *edge) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Protocol, b.Protocol))
	})
	out := []edge{}
	for _, e := range all {
		out = append(out, *e)
	}
	return out
}

// sideName gives workload.namespace of a side, the namespace alone marked where only that is known.
func sideName(labels map[string]string, side string) string {
	name, namespace := labels[side+"_workload"], labels[side+"_workload_namespace"]
	switch {
	case name != telemetry.Unknown && namespace != telemetry.Unknown:
		return name + "." + namespace
	case name != telemetry.Unknown:
		return name
	}
	if principal := labels[side+"_principal"]; principal != telemetry.Unknown && principal != "" {
		return principal
	}
	return telemetry.Unknown
}

// readSample reads a line of Prometheus's text format that is a sample of the metric.
func readSample(line, metric string) (labels map[string]string, value float64, ok bool) {
	rest, ok := strings.CutPrefix(line, metric+"{")
	if !ok {
		return nil, 0, false
	}
	labels = make(map[string]string)
	for !strings.HasPrefix(rest, "}") {
		name, quoted, found := strings.Cut(rest, "=")
		if !found {
			return nil, 0, false
		}
		text, err := strconv.QuotedPrefix(quoted)
		if err != nil {
			return nil, 0, false
		}
		if labels[strings.TrimPrefix(name, ",")], err = strconv.Unquote(text); err != nil {
			return nil, 0, false
		}
		rest = quoted[len(text):]
	}
	fields := strings.Fields(rest[1:])
	if len(fields) == 0 {
		return nil, 0, false
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	return labels, value, err == nil
}

func (e *edge) label() string {
	text := fmt.Sprintf("%s %.0f", e.Protocol, e.Requests)
	if e.Failed > 0 {
		text += fmt.Sprintf(", %.1f %% failed", 100*e.Failed/e.Requests)
	}
	if e.Secured {
		text += ", mTLS"
	}
	return text
}

func drawGraph(all []edge, format string) ([]byte, error) {
	var b strings.Builder
	switch format {
	case "json":
		return toJSON(all)
	case "dot":
		b.WriteString("digraph mesh {\n  rankdir=LR;\n  node [shape=box];\n")
		for i := range all {
			e := &all[i]
			color := ""
			if e.Failed > 0 {
				color = ", color=red"
			}
			fmt.Fprintf(&b, "  %s -> %s [label=%s%s];\n", quotedJSON(e.From), quotedJSON(e.To), quotedJSON(e.label()), color)
		}
		b.WriteString("}\n")
	case "mermaid":
		b.WriteString("flowchart LR\n")
		ids := make(map[string]string)
		id := func(name string) string {
			if had, ok := ids[name]; ok {
				return had
			}
			ids[name] = "n" + strconv.Itoa(len(ids))
			return ids[name] + `["` + mermaidText(name) + `"]`
		}
		for i := range all {
			e := &all[i]
			fmt.Fprintf(&b, "  %s -->|\"%s\"| %s\n", id(e.From), mermaidText(e.label()), id(e.To))
		}
	default:
		rows := [][]string{{"FROM", "TO", "PROTOCOL", "REQUESTS", "FAILED", "MTLS"}}
		for i := range all {
			e := &all[i]
			rows = append(rows, []string{e.From, e.To, e.Protocol, strconv.FormatFloat(e.Requests, 'f', 0, 64), fmt.Sprintf("%.1f %%", 100*e.Failed/max(e.Requests, 1)), strconv.FormatBool(e.Secured)})
		}
		b.WriteString(table(rows...))
	}
	return []byte(b.String()), nil
}

// mermaidText is a text within quotes.
func mermaidText(s string) string {
	return strings.NewReplacer(`"`, "#quot;", "<", "&lt;", ">", "&gt;").Replace(s)
}
