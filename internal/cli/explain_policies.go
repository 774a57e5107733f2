package cli

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/transport"
)

// A judgment is what the policies of one workload do with a request that may go to it.
type judgment struct {
	Cluster  string            `json:"cluster"`
	Workload string            `json:"workload"` // namespace, and labels
	Labels   map[string]string `json:"labels,omitempty"`
	transport.Authorization
}

// judge asks the policies of each workload that the decision's endpoints are of, told apart by their labels.
func (o *explainFlags) judge(cmd *cobra.Command, req *http.Request, d *mesh.Decision) ([]judgment, error) {
	var all []judgment
	namespace := namespaceOf(d)
	for i := range d.Destinations {
		v := &d.Destinations[i]
		for k := range v.Endpoints {
			e := &v.Endpoints[k]
			one := judgment{Cluster: v.Cluster, Workload: workloadText(namespace, e.Labels), Labels: e.Labels}
			if slices.ContainsFunc(all, func(j judgment) bool { return j.Cluster == one.Cluster && j.Workload == one.Workload }) {
				continue
			}
			var err error
			if one.Authorization, err = o.ask(cmd, req, namespace, e); err != nil {
				return nil, err
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// ask compiles the configuration for the workload of an endpoint, and asks that.
func (o *explainFlags) ask(cmd *cobra.Command, req *http.Request, namespace string, e *transport.EndpointView) (transport.Authorization, error) {
	callee := *o
	callee.from, callee.labels = workload{namespace: namespace}, e.Labels
	m, err := callee.mesh(cmd)
	if err != nil {
		return transport.Authorization{}, err
	}
	defer m.Close()
	c := transport.Inquiry{ID: o.as}
	if _, port, err := net.SplitHostPort(e.Address); err == nil {
		n, _ := strconv.ParseUint(port, 10, 16)
		c.Port = uint16(n)
	}
	a, err := m.Engine().Authorize(req, c)
	if err != nil {
		return a, &failure{exitUsage, err}
	}
	return a, nil
}

// namespaceOf is where the host is declared, which is where its workloads are.
func namespaceOf(d *mesh.Decision) string {
	for word := range strings.FieldsSeq(d.HostOrigin) {
		if namespace, _, ok := strings.Cut(word, "/"); ok {
			return namespace
		}
	}
	return "default"
}

func workloadText(namespace string, labels map[string]string) string {
	parts := []string{"namespace " + namespace}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ", ")
}

// String tells it in the columns of explain.
func (j *judgment) String() string {
	var b strings.Builder
	line := func(heading, text string) { fmt.Fprintf(&b, "%-10s %s\n", heading, text) }
	line("policies", j.Workload)
	line("", j.Verdict()+": "+j.Why)
	if j.Audit != "" {
		line("", "audit: "+j.Audit)
	}
	if j.DryRun != "" {
		line("", "dry run: "+j.DryRun)
	}
	return b.String()
}
