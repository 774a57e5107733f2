package cli

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/transport"
)

// authzFlags are those of explain, whose workload is here the one that is asked.
type authzFlags struct {
	explainFlags
	as     string
	source string
	port   uint16
}

func authzCommand() *cobra.Command {
	root := &cobra.Command{Use: "authz COMMAND", Short: "Say what policies decide, without traffic", DisableFlagsInUseLine: true}
	root.AddCommand(authzCheckCommand())
	return root
}

func authzCheckCommand() *cobra.Command {
	o := &authzFlags{explainFlags: explainFlags{headers: headers{}, from: workload{namespace: "default"}, labels: labels{}, policy: outboundPolicy()}}
	cmd := &cobra.Command{
		Use:   "check --config PATH [--as ID] [-X METHOD] [-H 'name: value']... URL",
		Short: "Say whether a workload's policies let a request in, and by which rule",
		Long: `check loads configuration as a program would and decides about a request that comes in to it, by its
RequestAuthentications and AuthorizationPolicies, as m.Serve, gRPC servers and heddle proxy do. Nothing is sent: where
a policy of action CUSTOM would have somebody asked, check says whom.

Without --as the caller has no certificate. Tokens are verified where they stand, in -H 'Authorization: Bearer ...';
for a request that has headers or a query, keys are fetched where a rule has a jwksUri or its issuer is to be asked.

Exit codes: 0 the request was decided on, whatever the verdict; 79 the configuration is refused, the findings
are on stderr; 65 it cannot be read or is no YAML; 64 wrong usage.`,
		Example: `  heddle authz check --config mesh.d --workload reviews --labels app=reviews \
    --as spiffe://cluster.local/ns/default/sa/productpage -X GET http://reviews:9080/reviews/1`,
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usageError("expected one URL, found %d", len(args))
			case len(o.config) == 0:
				return usageError("no --config given; for the directory you are in: --config .")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) }),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVar(&o.config, "config", nil, "file or directory of configuration, \"-\" for standard input (repeatable): `path`")
	f.StringVar(&o.as, "as", "", "who calls: `spiffe://<trust domain>/ns/<namespace>/sa/<account>`")
	f.StringVar(&o.source, "source", "", "the `address` that the call comes from")
	f.StringVarP(&o.method, "method", "X", http.MethodGet, "`method` of the request")
	f.VarP(&o.headers, "header", "H", "a header of the request, `'name: value'` (repeatable)")
	f.Var(&o.from, "workload", "`namespace[/name]` of the workload that is called")
	f.Var(&o.labels, "labels", "its labels, `k=v,...`")
	f.Uint16Var(&o.port, "port", 0, "its `port`; default: the URL's")
	f.StringArrayVar(&o.ignore, "ignore-kind", nil, "leave documents of this `kind` out, as WithIgnoredKinds does (repeatable)")
	f.StringArrayVar(&o.asked, "authorizer", nil, authorizerUsage)
	return cmd
}

func (o *authzFlags) run(cmd *cobra.Command, target string) error {
	req, err := o.request(cmd.Context(), target)
	if err != nil {
		return err
	}
	q, err := o.arrival(req)
	if err != nil {
		return err
	}
	o.fetch = len(o.headers) > 0 || req.URL.RawQuery != ""
	m, err := o.mesh(cmd)
	if err != nil {
		return err
	}
	defer m.Close()
	gate := m.Engine().Gate()
	var v transport.Verdict
	asking := ""
	switch rule := gate.Custom(q); {
	case rule == "":
	case gate.Answers():
		asking = rule + " asks " + asked(gate.Provider()) + ": nobody was asked, the verdict is for where that allows"
	default:
		asking = rule + fmt.Sprintf(" asks %q, whom nobody can ask", gate.Provider().Name)
		v = gate.Ask(cmd.Context(), q, rule, nil)
	}
	if v.Status == 0 {
		v = gate.Decide(q)
	}
	return emit(cmd, []byte(o.text(q, &v, asking)))
}

// arrival makes what a server would see of the request.
func (o *authzFlags) arrival(req *http.Request) (*transport.Arrival, error) {
	path, ok := call.CanonicalPath(req.URL.EscapedPath())
	if req.URL.Path == "" {
		path, ok = "/", true
	}
	if !ok {
		return nil, usageError("the path of %s has no safe spelling: it is answered with 400", req.URL)
	}
	host := req.Host
	q := &transport.Arrival{Request: authz.Request{Authority: host, Request: &call.Request{
		Method: req.Method, Scheme: req.URL.Scheme, Authority: host, Path: path, Query: req.URL.RawQuery, Headers: call.HTTPHeaders(req.Header)}}}
	if o.as != "" {
		peer, err := authz.ParsePrincipal(o.as)
		if err != nil {
			return nil, &failure{exitUsage, err}
		}
		q.Peer = peer
	}
	if o.source != "" {
		addr, err := netip.ParseAddr(o.source)
		if err != nil {
			return nil, usageError("--source %s: expected an address", o.source)
		}
		q.Source = addr
	}
	port := o.port
	if _, written, err := call.SplitAuthority(req.URL.Host); port == 0 && err == nil {
		port = written
	}
	q.Local = netip.AddrPortFrom(netip.Addr{}, port)
	if !q.Prepare() {
		return nil, usageError("%q is no host: it is answered with 400", host)
	}
	return q, nil
}

// asked names a provider for people.
func asked(p *external.Provider) string {
	if p.Kind == external.Program {
		return fmt.Sprintf("%q (%s)", p.Name, p.Kind)
	}
	return fmt.Sprintf("%q (%s, %s:%d)", p.Name, p.Kind, p.Host, p.Port)
}

// text is the verdict for people.
func (o *authzFlags) text(q *transport.Arrival, v *transport.Verdict, asking string) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s  "+format+"\n", append([]any{name}, args...)...)
	}
	line("request", "%s %s%s", q.Method, call.Printable(q.Authority), call.Printable(q.Path))
	caller := "nobody: no certificate"
	if q.Peer.Principal != "" {
		caller = call.Printable(q.Peer.Principal)
	}
	line("caller", "%s", caller)
	if v.Token != nil {
		line("token", "%s", call.Printable(v.Token.Principal()))
	}
	if asking != "" {
		line("custom", "%s", asking)
	}
	if v.Status != 0 {
		line("verdict", "%s", strings.TrimSpace(fmt.Sprint(v.Status, " ", v.Body)))
		line("because", "%s", v.Details)
	} else {
		line("verdict", "allowed")
		switch {
		case v.Decision.Rule != "":
			line("because", "%s", v.Decision.Rule)
		default:
			line("because", "no policy restricts it")
		}
	}
	if v.Decision.Audit != "" {
		line("audit", "%s", v.Decision.Audit)
	}
	if v.Decision.Shadow != authz.None {
		line("dry run", "%s", strings.TrimSpace(v.Decision.Shadow.String()+" "+v.Decision.ShadowRule))
	}
	return b.String()
}
