package cli

import (
	"net/http"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/transport"
)

// authzFlags are those of explain, whose workload is here the one that is asked.
type authzFlags struct {
	explainFlags
	source string
	claims string
	port   uint16
}

func authzCommand() *cobra.Command {
	root := &cobra.Command{Use: "authz COMMAND", Short: "Say what policies decide, without traffic", DisableFlagsInUseLine: true}
	root.AddCommand(authzCheckCommand())
	return root
}

func authzCheckCommand() *cobra.Command {
	o := &authzFlags{explainFlags: explainFlags{headers: headers{}, from: workload{namespace: "default"}, labels: labels{}, policy: outboundPolicy(),
		preset: presets(), output: choice{"text", []string{"text", "json"}}}}
	cmd := &cobra.Command{
		Use:   "check --config PATH [--as ID] [--claims JSON] [-X METHOD] [-H 'name: value']... URL",
		Short: "Say whether a workload's policies let a request in, and by which rule",
		Long: `check loads configuration as a program would and decides about a request that comes in to it, by its
RequestAuthentications and AuthorizationPolicies, as m.Serve, gRPC servers and heddle proxy do. Nothing is sent: where
a policy of action CUSTOM would have somebody asked, check says whom.

Without --as the caller has no certificate. Tokens are verified where they stand, in -H 'Authorization: Bearer ...';
--claims takes the place of one that was verified: --claims '{"iss": "https://issuer.example", "sub": "alice"}'.
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
	f.StringVar(&o.claims, "claims", "", "the claims of its token, a `JSON` object, as if that had been verified")
	f.VarP(&o.output, "output", "o", "`format`: text or json")
	f.StringArrayVar(&o.ignore, "ignore-kind", nil, "leave documents of this `kind` out, as WithIgnoredKinds does (repeatable)")
	f.StringArrayVar(&o.asked, "authorizer", nil, authorizerUsage)
	return cmd
}

func (o *authzFlags) run(cmd *cobra.Command, target string) error {
	req, err := o.request(cmd.Context(), target)
	if err != nil {
		return err
	}
	caller, err := o.caller()
	if err != nil {
		return err
	}
	o.fetch = len(o.headers) > 0 || req.URL.RawQuery != ""
	m, err := o.mesh(cmd)
	if err != nil {
		return err
	}
	defer m.Close()
	v, err := m.Engine().Authorize(req, caller)
	if err != nil {
		return &failure{exitUsage, err}
	}
	text := []byte(v.String())
	if o.output.value == "json" {
		if text, err = toJSON(v); err != nil {
			return err
		}
	}
	return emit(cmd, text)
}

func (o *authzFlags) caller() (transport.Inquiry, error) {
	c := transport.Inquiry{ID: o.as, Port: o.port}
	if o.claims != "" {
		c.Claims = []byte(o.claims)
	}
	if o.source != "" {
		addr, err := netip.ParseAddr(o.source)
		if err != nil {
			return c, usageError("--source %s: expected an address", o.source)
		}
		c.Source = addr
	}
	return c, nil
}
