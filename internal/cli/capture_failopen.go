package cli

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/snapshot"
)

type failOpenFlags struct {
	rules          capture.Config
	grace          time.Duration
	config         []string
	ignore         []string
	namespace      workloadName
	serviceAccount workloadName
	labels         labels
	uninstall      bool
}

func captureFailOpenCommand() *cobra.Command {
	o := &failOpenFlags{namespace: "default", serviceAccount: "default", labels: labels{}}
	cmd := &cobra.Command{
		Use:   "fail-open [flags]",
		Short: "Install the rules, stay, and lift them while no sidecar runs: the program then goes past the mesh",
		Long: `fail-open does what install does, and stays. Where nobody has listened on the sidecar's two ports for --grace it lifts the rules, says so, and
puts them back when somebody listens again. While they are lifted the program talks plaintext, past the mesh, under none of its policies. It is
the choice of those to whom that is better than no connection at all; install alone refuses connections where no sidecar runs.

What policy closes stays closed. Of what the program is sent nothing is lifted unless --config says what its workload requires: ports of STRICT mutual TLS
stay captured, and all ports where an AuthorizationPolicy or a RequestAuthentication selects it. Calls of the program stay captured under REGISTRY_ONLY.

It looks who listens and connects to nobody. It needs CAP_NET_ADMIN as long as it runs. When it is asked to end it leaves the rules, whole, so that connections are
refused without a sidecar, or takes them out with --uninstall. When it is killed the rules stay as they are at that moment, also lifted: have it started again.`,
		Example: `  heddle capture fail-open --exclude-inbound-ports 22
  heddle capture fail-open --grace 30s --config mesh.d --namespace shop --labels app=ratings,version=v1`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.NoArgs,
		RunE:                  action(func(cmd *cobra.Command, _ []string) error { return o.run(cmd) }),
	}
	captureRules(cmd, &o.rules)
	f := cmd.Flags()
	f.DurationVar(&o.grace, "grace", capture.DefaultGrace, "for how `long` nobody may listen before the rules are lifted")
	f.StringArrayVar(&o.config, "config", nil, "file or directory of the sidecar's configuration, watched (repeatable): `path`; default: none, and nothing inbound is lifted")
	f.Var(&o.namespace, "namespace", "the program's `namespace`, as heddle proxy has it")
	f.Var(&o.serviceAccount, "service-account", "its service `account`")
	f.Var(&o.labels, "labels", "its labels, `k=v,...`")
	f.StringArrayVar(&o.ignore, "ignore-kind", nil, "leave documents of this `kind` out (repeatable)")
	f.BoolVar(&o.uninstall, "uninstall", false, "take the rules out at the end; default: they are left, whole")
	return cmd
}

func (o *failOpenFlags) run(cmd *cobra.Command) error {
	_, err := capture.Print(o.rules)
	switch {
	case err != nil:
		return usageError("%w", err)
	case o.grace < 0:
		return usageError("--grace is negative")
	case slices.Contains(o.config, ""):
		return usageError("a path is empty")
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	f := capture.FailOpen{Config: o.rules, Grace: o.grace, Uninstall: o.uninstall, Tell: func(e capture.FailOpenEvent) { o.tell(log, e) }}
	if o.grace == 0 {
		f.Grace = -1
	}
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	if len(o.config) > 0 {
		p := &closedPolicy{changed: make(chan struct{}, 1), log: log}
		ended := p.watch(ctx, config.Options{IgnoredKinds: o.ignore, GRPCAuthorizers: true, Report: p.told,
			Workload: snapshot.Workload{Namespace: string(o.namespace), ServiceAccount: string(o.serviceAccount), Labels: o.labels}}, o.config)
		defer func() { stop(); <-ended }()
		f.Policy, f.Changed = p.closed, p.changed
	}
	return f.Watch(ctx)
}

// tell logs what has happened, and what it means.
func (o *failOpenFlags) tell(log *slog.Logger, e capture.FailOpenEvent) {
	lasted := slog.String("for", e.For.Round(100*time.Millisecond).String())
	switch e.Kind {
	case capture.Watching:
		log.Info("FAIL-OPEN mode: the rules are installed; they are lifted when nobody listens on the sidecar's ports", "outboundPort", o.rules.OutboundPort,
			"inboundPort", o.rules.InboundPort, "grace", o.grace, stays(e.Closed))
	case capture.Missing:
		log.Warn("no sidecar: captured connections are refused, and the rules are lifted when none comes", "grace", o.grace)
	case capture.Returned:
		log.Info("a sidecar is there again, in time", lasted)
	case capture.Lifted:
		if e.Lifted == "" {
			log.Warn("no sidecar, and nothing is lifted: policy closes everything", lasted, stays(e.Closed))
			return
		}
		log.Warn("FAIL-OPEN: RULES ARE LIFTED. Connections go past the mesh NOW, in PLAINTEXT, under none of its policies", "open", e.Lifted, lasted, stays(e.Closed))
	case capture.Restored:
		log.Warn("FAIL-OPEN is over: a sidecar is there, and connections are captured again. Those that were made meanwhile go on past it until they end", "open", e.For.Round(100*time.Millisecond))
	case capture.Failed:
		log.Error("fail-open: it is tried again", "err", e.Err)
	case capture.Left:
		log.Info("fail-open ends, and the rules stay: without a sidecar connections are refused")
	case capture.Removed:
		log.Info("fail-open ends, and has taken the rules out: connections go past the mesh")
	}
}

// stays says what is not lifted.
func stays(c capture.Closed) slog.Attr {
	var all []any
	if c.Outbound != "" {
		all = append(all, slog.String("outbound", c.Outbound))
	}
	switch {
	case c.Inbound != "":
		all = append(all, slog.String("inbound", c.Inbound))
	case len(c.Ports) > 0:
		all = append(all, slog.String("inboundPorts", c.String()))
	}
	return slog.Group("staysCaptured", all...)
}

// A closedPolicy reads from a configuration what must not be lifted. It is safe for concurrent use.
type closedPolicy struct {
	live    atomic.Pointer[snapshot.Snapshot] // nil until there is one
	changed chan struct{}
	log     *slog.Logger
}

// watch begins to read, and returns when all has been read once. What it gives is closed when it has ended.
func (p *closedPolicy) watch(ctx context.Context, o config.Options, paths []string) (ended <-chan struct{}) {
	joined := config.Join(o, new(discovery.Registry), config.WatchPaths(paths...))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := joined.Run(ctx, p.publish); err != nil {
			p.log.Error("the configuration is not watched any more", "err", err)
			_ = p.publish(ctx, nil)
		}
	}()
	select {
	case <-joined.Ready():
	case <-done:
	}
	return done
}

// publish takes what is live from now on, nil for nothing that is known.
func (p *closedPolicy) publish(_ context.Context, s *snapshot.Snapshot) error {
	p.live.Store(s)
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

// told logs what was refused: what was live before goes on, as in a sidecar.
func (p *closedPolicy) told(s config.Status) {
	if s.Refused != nil {
		p.log.Error("the configuration is refused, and what was live before goes on to say what stays captured", "err", s.Refused)
	}
}

// closed is capture.FailOpen's Policy.
func (p *closedPolicy) closed() capture.Closed {
	s := p.live.Load()
	if s == nil {
		return capture.Closed{Outbound: "the configuration cannot be read", Inbound: "the configuration cannot be read"}
	}
	return closedBy(s)
}

// closedBy says what a snapshot closes: nobody would ask its policies, or for mutual TLS.
func closedBy(s *snapshot.Snapshot) (c capture.Closed) {
	if s.Outbound == snapshot.RegistryOnly {
		c.Outbound = "outboundTrafficPolicy is " + mesh.RegistryOnly.String()
	}
	switch {
	case s.Authorization != nil || s.ConnAuthorization != nil:
		c.Inbound = "an AuthorizationPolicy says who may call"
	case s.Authentication != nil:
		c.Inbound = "a RequestAuthentication looks at tokens"
	default:
		c.Ports = strictPorts(&s.Inbound)
		if len(c.Ports) == 1 && c.Ports[0] == everyPort {
			c.Ports, c.Inbound = nil, fmt.Sprintf("mutual TLS is STRICT (%s)", s.Inbound.Origin)
		}
	}
	return c
}

var everyPort = capture.Range{First: 0, Last: 1<<16 - 1}

// strictPorts are those of STRICT mutual TLS, in ranges and in their order.
func strictPorts(in *snapshot.Inbound) []capture.Range {
	var all []capture.Range
	for port := range everyPort.Last + 1 {
		if in.Mode(uint16(port)) != snapshot.Strict {
			continue
		}
		if n := len(all); n > 0 && all[n-1].Last+1 == port {
			all[n-1].Last = port
			continue
		}
		all = append(all, capture.Range{First: port, Last: port})
	}
	return all
}

// captureState says in words what a FailOpen has done to rules.
func captureState(p *capture.Place) string {
	switch {
	case !p.FailOpen:
		return ""
	case p.Lifted == "":
		return "fail-open: nothing is lifted; heddle capture fail-open lifts the rules while no sidecar runs\n"
	}
	return fmt.Sprintf("FAIL-OPEN: LIFTED since %s, %s: these connections go past the mesh, in plaintext\n", p.Since.Format(time.RFC3339), p.Lifted)
}
