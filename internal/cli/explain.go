package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/extauthz"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/transport"
)

type explainFlags struct {
	config  []string
	method  string
	headers headers
	from    workload
	labels  labels
	place   locality
	ignore  []string
	asked   []string // the program's own authorizers
	policy  choice
	preset  choice
	output  choice
	as      string
	fetch   bool // keys of tokens
}

func explainCommand() *cobra.Command {
	o := &explainFlags{
		headers: headers{},
		from:    workload{namespace: "default"},
		labels:  labels{},
		policy:  outboundPolicy(),
		preset:  presets(),
		output:  choice{"text", []string{"text", "json"}},
	}
	cmd := &cobra.Command{
		Use:   "explain --config PATH [--as ID] [-X METHOD] [-H 'name: value']... URL",
		Short: "Say where a request would go, and why, without sending it",
		Long: `explain loads configuration as a program would and says what becomes of a request: the virtual host,
each rule in list order with its conditions and why it did or did not match, the route, its clusters with
their shares and endpoints, and the verdict; and of the host, each rule, subset and policy where it is
written. Nothing is sent and nothing is looked up.

A URL without a scheme is an http URL; without a port it is port 80. "-H 'Host: ...'" decides the host, as
in a request of net/http; the port is the URL's.

With --as it also says of each kind of endpoint that the request may go to what the policies of that workload do with it,
and by which rule.

Exit codes: 0 the request was explained, whatever the verdict; 79 the configuration is refused, the
findings are on stderr; 65 it cannot be read or is no YAML; 64 wrong usage.`,
		Example: `  heddle explain --config mesh.d reviews:9080/reviews/1
  heddle explain --config mesh.d -X POST -H 'end-user: jason' http://reviews:9080/reviews/1
  heddle explain --config mesh.d --from shop/web --labels app=web,version=v2 -o json reviews.default:9080`,
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError("no URL given")
			case len(args) > 1:
				return usageError("expected one URL, found %d", len(args))
			case len(o.config) == 0:
				return usageError("no --config given; for the directory you are in: --config .")
			case slices.Contains(o.config, ""):
				return usageError("a path is empty")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) }),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVar(&o.config, "config", nil, "file or directory of configuration, \"-\" for standard input (repeatable): `path`")
	f.StringVarP(&o.method, "method", "X", http.MethodGet, "`method` of the request")
	f.VarP(&o.headers, "header", "H", "a header of the request, `'name: value'` (repeatable)")
	f.Var(&o.from, "from", "`namespace[/name]` of the workload that calls")
	f.StringVar(&o.as, "as", "", "say what policies of those that are called do: who calls is `spiffe://<trust domain>/ns/<namespace>/sa/<account>`")
	f.Var(&o.labels, "labels", "its labels, `k=v,...`")
	f.Var(&o.place, "locality", "`region/zone/subzone` where it runs")
	f.StringArrayVar(&o.ignore, "ignore-kind", nil, "leave documents of this `kind` out, as WithIgnoredKinds does (repeatable)")
	f.Var(&o.policy, "outbound-traffic-policy", "`mode`: ALLOW_ANY or REGISTRY_ONLY, as WithOutboundTrafficPolicy has it")
	f.Var(&o.preset, "preset", "`preset`: none or production, as WithPreset has it")
	f.VarP(&o.output, "output", "o", "`format`: text or json")
	return cmd
}

func (o *explainFlags) run(cmd *cobra.Command, target string) error {
	req, err := o.request(cmd.Context(), target)
	if err != nil {
		return err
	}
	m, err := o.mesh(cmd)
	if err != nil {
		return err
	}
	defer m.Close()
	d, err := m.Explain(req)
	if err != nil {
		return &failure{exitUsage, err}
	}
	var judged []judgment
	if o.as != "" {
		if judged, err = o.judge(cmd, req, &d); err != nil {
			return err
		}
	}
	text, err := o.text(d, judged, m)
	if err != nil {
		return err
	}
	return emit(cmd, text)
}

func (o *explainFlags) text(d mesh.Decision, judged []judgment, m *mesh.Mesh) ([]byte, error) {
	if o.output.value == "json" {
		return toJSON(struct {
			mesh.Decision
			Policies []judgment `json:"policies,omitempty"`
		}{d, judged})
	}
	text := d.String()
	for i := range judged {
		text += judged[i].String()
	}
	if hint := otherNamespace(d, o.from.namespace, m.Status().Clusters); hint != "" {
		text += "hint       " + hint + "\n"
	}
	return []byte(text), nil
}

// request makes the request that the arguments describe.
func (o *explainFlags) request(ctx context.Context, target string) (*http.Request, error) {
	switch {
	case strings.HasPrefix(target, "//"):
		target = "http:" + target
	case !strings.Contains(target, "://"):
		target = "http://" + target
	}
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return nil, &failure{exitUsage, err}
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, usageError("%s: expected an http or https URL", target)
	case u.Hostname() == "":
		return nil, usageError("%s: the URL has no host", target)
	}
	req, err := http.NewRequestWithContext(ctx, o.method, target, nil)
	if err != nil {
		return nil, &failure{exitUsage, err}
	}
	req.Header = http.Header(o.headers)
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	return req, nil
}

// nobody stands for an authorizer of the program: here it is not asked.
func nobody(context.Context, *external.Check) (external.Answer, error) { return external.Answer{}, nil }

// mesh starts one that calls nobody. Where its configuration is refused, the findings go to stderr.
func (o *explainFlags) mesh(cmd *cobra.Command) (*mesh.Mesh, error) {
	from := o.from.with(o.labels)
	from.Locality = string(o.place)
	opts := []mesh.Option{
		mesh.WithWorkload(from),
		mesh.WithIgnoredKinds(o.ignore...),
		mesh.WithOutboundTrafficPolicy(policyOf(o.policy)),
		mesh.WithPreset(presetOf(o.preset)),
		mesh.WithGRPCAuthorizers(extauthz.Dial),
		mesh.WithLogger(slog.New(slog.DiscardHandler)),
	}
	if !o.fetch {
		opts = append(opts, mesh.WithDialer(sendNothing))
	}
	for _, name := range o.asked {
		opts = append(opts, mesh.WithAuthorizer(name, external.AuthorizerFunc(nobody)))
	}
	files, input := splitPaths(o.config)
	if len(files) > 0 {
		opts = append(opts, mesh.WithConfigPath(files...))
	}
	if input {
		text, err := readInput(cmd.Context(), cmd.InOrStdin())
		if err != nil {
			return nil, err
		}
		opts = append(opts, mesh.WithConfigFS(text, stdinFile))
	}
	m, err := mesh.New(cmd.Context(), opts...)
	if refused, ok := errors.AsType[*mesh.ConfigError](err); ok {
		return nil, refusal(refused, cmd.ErrOrStderr())
	}
	return m, err
}

// sendNothing is the dialer of a mesh that says what it would do.
func sendNothing(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("nothing is sent")
}

// refusal writes a refused configuration's findings as analyze does.
func refusal(e *mesh.ConfigError, w io.Writer) error {
	found := sorted(e.Findings)
	for _, f := range found {
		fmt.Fprintln(w, f)
	}
	code := exitFindings
	if slices.ContainsFunc(found, unreadable) {
		code = exitInput
	}
	return &failure{code, fmt.Errorf("the configuration is refused: %s", count(len(found), "error"))}
}

// otherNamespace notices a short name that is a service of other namespaces only. Istio documents name their
// clusters outbound|port|subset|host.
func otherNamespace(d mesh.Decision, namespace string, clusters []transport.ClusterView) string {
	if d.VirtualHost != "" || strings.Contains(d.Host, ".") {
		return ""
	}
	var known []string
	for _, c := range clusters {
		parts := strings.Split(c.Name, "|")
		host := parts[len(parts)-1]
		if strings.HasPrefix(host, d.Host+".") && !slices.Contains(known, host) {
			known = append(known, host)
		}
	}
	if len(known) == 0 || slices.Contains(known, d.Host+"."+namespace+".svc.cluster.local") {
		return ""
	}
	slices.Sort(known)
	return fmt.Sprintf("%s is short for %s.%s.svc.cluster.local here; the mesh knows %s", d.Host, d.Host, namespace,
		strings.Join(known, ", "))
}
