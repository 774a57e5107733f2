package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/identity/ca"
)

type caServeFlags struct {
	workloads []string
	sockets   string
	istio     string
	federate  federated
	life      time.Duration
}

// federated are trust domains and the files of their bundles, one in each flag.
type federated map[string]string

func (federated) String() string { return "" }
func (federated) Type() string   { return "domain=file" }

func (f federated) Set(s string) error {
	domain, file, ok := strings.Cut(s, "=")
	if !ok || domain == "" || file == "" {
		return errors.New("expected trust-domain=file")
	}
	if f[domain] != "" {
		return fmt.Errorf("trust domain %s is given twice", domain)
	}
	f[domain] = file
	return nil
}

func caServeCommand() *cobra.Command {
	o := &caServeFlags{federate: federated{}}
	cmd := &cobra.Command{
		Use:   "serve DIR --workload [NAME=]NAMESPACE/ACCOUNT... [flags]",
		Short: "Issue SVIDs to workloads, over the SPIFFE Workload API and Istio's CSR protocol",
		Long: `serve opens a Unix socket of mode 0600 for each workload, <sockets>/<name>.sock, and serves the SPIFFE Workload API on
it. Whoever can open the socket is the workload: only its ID is signed, whatever is asked for. SVIDs are short-lived
and renewed at half of their life; root and issuing authority are replaced with overlap at half of theirs. Each
issuance is a line on stderr and in issued.jsonl.

With --istio, Istio's IstioCertificateService is served too, over TLS, and every request needs the token of a workload,
from this machine as well: <sockets>/<name>.token, mode 0600, another one with each start.

It ends with SIGTERM or SIGINT, and takes sockets and tokens with it.`,
		Example: `  heddle ca serve ca.d --workload default/reviews --workload ratings-v1=default/ratings
  heddle ca serve ca.d --workload default/web --istio 127.0.0.1:15012 --federate other.example=other.pem`,
		DisableFlagsInUseLine: true,
		Args:                  oneDir,
		RunE:                  action(o.main),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVar(&o.workloads, "workload", nil, "`[name=]namespace/account` to issue to; the name is the socket's, the account's by default (repeatable)")
	f.StringVar(&o.sockets, "sockets", "", "`directory` of the sockets, mode 0700 (default: sockets in DIR)")
	f.StringVar(&o.istio, "istio", "none", "`address`, of this machine, of Istio's CSR protocol, none for none")
	f.Var(&o.federate, "federate", "`domain=file`: the bundle of another trust domain, read again when it changes (repeatable)")
	f.DurationVar(&o.life, "life", 0, "how `long` SVIDs last; default: what the authority was made with")
	return cmd
}

func (o *caServeFlags) main(cmd *cobra.Command, args []string) error {
	if len(o.workloads) == 0 {
		return usageError("no --workload given: there is nobody to issue to")
	}
	if o.life < 0 {
		return usageError("--life is negative")
	}
	if address := listenAddress(o.istio); address != "" {
		if err := checkAddress(address); err != nil {
			return usageError("--istio %s: %w", address, err)
		}
	}
	if o.sockets == "" {
		o.sockets = filepath.Join(args[0], "sockets")
	}
	log := slog.New(slog.NewTextHandler(&lockedWriter{w: cmd.ErrOrStderr()}, nil))
	a, err := ca.Open(args[0], ca.Options{Life: o.life, Issued: func(i ca.Issuance) error {
		log.Info("issued", "what", i.What, "id", i.ID, "serial", i.Serial, "expires", i.NotAfter, "to", i.To)
		return nil
	}})
	if err != nil {
		return readable(err)
	}
	defer a.Close()
	if err := a.Rotate(); err != nil {
		return err
	}
	workloads, err := o.parse(a.TrustDomain())
	if err != nil {
		return err
	}
	s, err := a.Listen(ca.ServerOptions{Sockets: o.sockets, Workloads: workloads, Istio: listenAddress(o.istio), Federated: o.federate,
		Report: func(err error) { log.Error("what is there goes on", "error", err) }})
	if err != nil {
		return err
	}
	for _, w := range workloads {
		log.Info("workload", "id", w.ID.String(), "SPIFFE_ENDPOINT_SOCKET", "unix://"+s.Socket(w))
	}
	ready := []any{"trust_domain", a.TrustDomain()}
	if at := s.IstioAddr(); at != nil {
		ready = append(ready, "istio", at.String())
	}
	log.Info("heddle ca is ready", ready...)
	return s.Run(cmd.Context())
}

func (o *caServeFlags) parse(trustDomain string) ([]ca.Workload, error) {
	names := make(map[string]bool)
	var all []ca.Workload
	for _, text := range o.workloads {
		w, err := ca.ParseWorkload(trustDomain, text)
		if err != nil {
			return nil, usageError("--workload %w", err)
		}
		if names[w.Name] {
			return nil, usageError("--workload %s: the name %s is given twice; name=namespace/account gives another", text, w.Name)
		}
		names[w.Name] = true
		all = append(all, w)
	}
	return all, nil
}
