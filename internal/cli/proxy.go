package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/extauthz"
	workloadapi "github.com/heddlemesh/mesh/identity/workload"
	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/proxy"
)

type proxyFlags struct {
	config         []string
	snapshots      string
	takeover       string
	again          chan struct{} // has the files of the identity read anew
	workload       workloadName
	namespace      workloadName
	serviceAccount workloadName
	labels         labels
	locality       locality
	inbound        inbounds
	outbound       string
	admin          string
	health         string
	probes         string
	appMetrics     string
	accessLog      string
	accessLogAs    choice
	transparent    bool
	capturedOut    uint16
	capturedIn     uint16
	opaque         ports
	proxied        ports
	outboundTCP    outboundTCPs
	connects       bool
	tproxy         bool
	dns            addresses
	dnsUpstreams   nameServers
	dnsAutomatic   bool
	serverFirst    time.Duration
	policy         choice
	preset         choice
	settings       string
	svid           identity.Files
	api            workloadapi.API
	nonLoopback    bool
	loopbackKeys   bool
	ignore         []string
	strict         bool
	still          time.Duration
	delay          time.Duration
	drain          time.Duration
}

func proxyCommand() *cobra.Command {
	o := &proxyFlags{namespace: "default", serviceAccount: "default", labels: labels{}, policy: outboundPolicy(), preset: presets(), accessLogAs: logEncodings()}
	cmd := &cobra.Command{
		Use:   "proxy --config PATH [--inbound LISTEN=APP]... [flags] [-- command args...]",
		Short: "Run the mesh beside a program, as its sidecar",
		Long: `proxy puts a program behind the mesh that is not written in Go. Its callers reach it through --inbound;
its own calls go through --outbound, which is an HTTP proxy (http_proxy) and serves requests by their Host.

A command after "--" is started when the listeners are open, with http_proxy, HTTP_PROXY, no_proxy,
NODE_USE_ENV_PROXY and Java's proxy properties set. It is sent the signals that heddle is sent. SIGHUP has the
files of configuration and identity read at once. SIGTERM and
SIGINT drain first: /ready says 503, and after --drain-delay (SIGTERM only) the inbound listeners close; inbound
requests under way end, then the command is told, then outbound ones end. The exit code is the command's, 128
and its number where a signal ended it, 127 where there is no such command, 126 where it cannot be run.

Each flag can also be given as a variable, HEDDLE_CONFIG, HEDDLE_SERVICE_ACCOUNT, HEDDLE_INBOUND …, where commas
separate lists, and in the file that --settings names. A flag counts before a variable, and that before the file:

  config: [mesh.d]
  workload: ratings-v1
  labels: {app: ratings, version: v1}
  inbound:
  - ":9080=127.0.0.1:19080"
  drain-timeout: 20s

Exit codes of heddle itself: 79 the configuration is refused, the findings are on stderr; 65 it or the settings
cannot be read or are no YAML; 64 wrong usage, unknown or wrong settings; 1 a listener cannot be opened.`,
		Example: `  heddle proxy --config mesh.d --workload ratings-v1 --labels app=ratings,version=v1 \
    --inbound :9080=127.0.0.1:19080 -- node ratings.js 19080
  heddle proxy --config mesh.d --namespace shop --outbound 127.0.0.1:15001 --admin none`,
		DisableFlagsInUseLine: true,
		RunE:                  action(o.main),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.settings, "settings", "", "`file` of settings, YAML: the names of the flags below and their values")
	f.StringArrayVar(&o.config, "config", nil, "file or directory of configuration, watched (repeatable): `path`")
	f.StringVar(&o.snapshots, "snapshot-dir", "", "`directory` in which the configuration is kept, to start by where --config is away or refused")
	f.Var(&o.workload, "workload", "`name` of the program's workload")
	f.Var(&o.namespace, "namespace", "its `namespace`, which decides what short names mean")
	f.Var(&o.serviceAccount, "service-account", "its service `account`")
	f.Var(&o.labels, "labels", "its labels, `k=v,...`")
	f.Var(&o.locality, "locality", "`region/zone/subzone` where it runs, for rules that prefer what is near")
	f.Var(&o.inbound, "inbound", "where callers connect, and where the program listens: `[host]:port=[host]:port` or [host]:port=unix:///path (repeatable)")
	f.StringVar(&o.outbound, "outbound", "127.0.0.1:15001", "`address` of the outbound listener, none for none")
	f.Var(&o.outboundTCP, "outbound-tcp", "where the program reaches a host by what is not HTTP: `[host]:port=host:port`, as in 127.0.0.1:3306=mysql:3306 (repeatable)")
	f.BoolVar(&o.connects, "allow-connect", false, "let the program ask --outbound for tunnels by CONNECT, to the mesh by the rules of tcp and tls, or where the policy lets it out; never to this machine")
	f.StringVar(&o.admin, "admin", "127.0.0.1:15000", "`address` of the admin pages, or unix:///path of a socket; none for none")
	f.StringVar(&o.health, "health", "none", "`address` of /healthz/ready and the program's own probes, :15021 in Istio, none for none; for everybody")
	f.StringVar(&o.probes, "app-probes", "", "the program's probes as `JSON`, as Istio's injector has them; default: the variable ISTIO_KUBE_APP_PROBERS")
	f.BoolVar(&o.transparent, "transparent", false, "take the connections that heddle capture redirects, both ways; --outbound is then none by default")
	f.Uint16Var(&o.capturedOut, "capture-outbound-port", capture.OutboundPort, "`port` on which the program's own connections arrive, on loopback")
	f.Uint16Var(&o.capturedIn, "capture-inbound-port", capture.InboundPort, "`port` on which connections to the program arrive")
	f.Var(&o.opaque, "opaque-ports", "`ports` of the program on which nobody speaks HTTP, 3306,5432")
	f.Var(&o.proxied, "proxy-protocol-ports", "`ports` of the program, or of --inbound, whose callers say by the PROXY protocol who has made the connection; who does not is refused")
	f.DurationVar(&o.serverFirst, "server-first", proxy.DefaultServerFirst, "after how `long` a silent captured connection to the program is one on which the program speaks first")
	f.BoolVar(&o.tproxy, "tproxy", false, "the rules are those of heddle capture install --tproxy: the program sees its callers' addresses; needs CAP_NET_ADMIN")
	f.Var(&o.dns, "dns", "`addresses` of loopback where the program's DNS queries are answered, none for none; with --transparent by default 127.0.0.1:15053 and [::1]:15053")
	f.Var(&o.dnsUpstreams, "dns-upstream", "`servers` that are asked for names that the mesh does not know, 10.0.0.2,10.0.0.3:53; default: those of /etc/resolv.conf")
	f.BoolVar(&o.dnsAutomatic, "dns-auto-allocate", true, "give hosts that have no address automatic ones, of 240.240.0.0/16 and 2001:2::/64")
	f.StringVar(&o.appMetrics, "app-metrics", "", "`URL` of the program's own metrics, which /stats/prometheus then has too")
	f.StringVar(&o.accessLog, "access-log", "", "`file` of the access log, /dev/stdout for the standard output; default: MeshConfig's accessLogFile")
	f.Var(&o.accessLogAs, "access-log-encoding", "`encoding` of --access-log: TEXT or JSON, Istio's formats where accessLogFormat says no other")
	f.Var(&o.policy, "outbound-traffic-policy", "`mode`: ALLOW_ANY passes calls to unknown hosts through, REGISTRY_ONLY answers them with 502")
	f.Var(&o.preset, "preset", "`preset`: production gives deadlines, time-outs of tries, retry budgets and ejection where no document has them; none")
	f.StringVar(&o.svid.Certificate, "svid", "", "`file` of the program's X.509-SVID, PEM, for mutual TLS; with --svid-key and --svid-bundle")
	f.StringVar(&o.svid.Key, "svid-key", "", "`file` of its private key")
	f.StringVar(&o.svid.Bundle, "svid-bundle", "", "`file` of the authorities that are believed")
	f.StringVar(&o.api.Address, "workload-api", "", "`address` of a SPIFFE Workload API that gives the identity, unix:///path; default: the variable SPIFFE_ENDPOINT_SOCKET")
	f.StringVar(&o.api.Hint, "workload-api-hint", "", "`hint` of the SVID to take among several; default: the first")
	f.StringVar(&o.takeover, "takeover", "", "Unix `socket` by which a new process takes the listeners of this one over, and this one those of an older one")
	f.BoolVar(&o.nonLoopback, "allow-non-loopback", false, "let --outbound and --admin be reached from other machines")
	f.BoolVar(&o.loopbackKeys, "allow-loopback-keys", false, "let keys of tokens be fetched from this machine, as WithLoopbackKeys does")
	f.StringArrayVar(&o.ignore, "ignore-kind", nil, "leave documents of this `kind` out, as WithIgnoredKinds does (repeatable)")
	f.BoolVar(&o.strict, "strict", false, "refuse the configuration for warnings too, as WithStrictConfig does")
	f.DurationVar(&o.still, "stream-idle-timeout", proxy.DefaultStreamIdleTimeout, "after how `long` without a byte either way an HTTP/1 request ends, 0 for never")
	f.DurationVar(&o.delay, "drain-delay", 5*time.Second, "how `long` after SIGTERM inbound listeners stay open while /ready says 503")
	f.DurationVar(&o.drain, "drain-timeout", 10*time.Second, "how `long` requests under way may then take to end, and after them the command")
	return cmd
}

// proxyProcessors is how many processors a sidecar uses where GOMAXPROCS does not say. With more, every request that comes
// alone wakes a second thread for nothing; one serves tens of thousands of requests a second (docs/performance.md has both
// measured). The collector keeps Go's default: there is next to nothing for it to do.
const proxyProcessors = 1

func limitProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(proxyProcessors)
	}
}

// main checks what it was told, starts everything and gives the exit code as a failure.
func (o *proxyFlags) main(cmd *cobra.Command, args []string) error {
	if err := o.check(cmd, args); err != nil {
		return err
	}
	probes, err := o.appProbes()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, handled()...)
	if len(args) > 0 {
		signal.Notify(signals, forwarded()...)
	}
	defer signal.Stop(signals)

	stderr := &lockedWriter{w: cmd.ErrOrStderr()}
	level := new(slog.LevelVar)
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	guard := proxy.NewGuard(nil)
	through := proxy.Passthrough(guard.DialContext)
	defer through.CloseIdleConnections()
	w := mesh.Workload{Name: string(o.workload), Namespace: string(o.namespace), ServiceAccount: string(o.serviceAccount), Labels: o.labels,
		Locality: string(o.locality)}
	if o.still == 0 {
		o.still = -1
	}
	replies := &replyLog{log: log}
	opts := []mesh.Option{mesh.WithLogger(log), mesh.WithPolicyLog(replies.decided), mesh.WithWorkload(w), mesh.WithDialer(guard.DialContext), mesh.WithPassthrough(through),
		mesh.WithGRPCAuthorizers(extauthz.Dial), mesh.WithAccessLogStream("/dev/stdout", cmd.OutOrStdout()), mesh.WithAccessLogStream("/dev/stderr", stderr)}
	if o.accessLog != "" {
		opts = append(opts, mesh.WithAccessLogFile(o.accessLog, o.accessLogAs.value == "JSON"))
	}
	o.again = make(chan struct{}, 1)
	o.svid.Again = o.again
	if s := o.identity(); s != nil {
		opts = append(opts, mesh.WithIdentity(s))
	}
	if o.loopbackKeys {
		opts = append(opts, mesh.WithLoopbackKeys())
	}
	traced, flush, err := tracing(&w, log)
	if err != nil {
		return err
	}
	defer flush()
	again := &reloader{watch: config.WatchPaths(o.config...), identity: o.again, log: log}
	defer again.close()
	m, err := o.mesh(cmd, append(append(opts, traced...), mesh.WithSource(o.source(again.watch, log)))...)
	if err != nil {
		return err
	}
	defer m.Close()
	limitProcessors() // what is served from here on; the configuration was read, and its garbage collected, with all there are
	again.mesh = m

	quit := make(chan struct{})
	var once sync.Once
	older, err := takeOver(cmd.Context(), o.takeover, log)
	if err != nil {
		return err
	}
	defer older.close()
	s, err := proxy.Start(proxy.Config{Mesh: m, Listen: older.listen, ListenPacket: older.listenPacket, Guard: guard, Inbound: o.inbound.told(o.opaque, o.proxied), OutboundTCP: o.outboundTCP, AllowConnect: o.connects,
		Outbound: listenAddress(o.outbound), Capture: o.capture(), DNS: o.names(),
		Health: listenAddress(o.health), Probes: probes,
		Admin: listenAddress(o.admin), AllowNonLoopback: o.nonLoopback, StreamIdleTimeout: o.still, OnReply: replies.report, AppMetrics: o.appMetrics,
		Quit: func() { once.Do(func() { close(quit) }) }, Workload: w, Version: proxyVersion(), Logger: log, LogLevel: level})
	if err != nil {
		return err
	}
	if len(o.inbound) == 0 && listenAddress(o.outbound) == "" && len(o.outboundTCP) == 0 && !o.transparent && len(s.DeclaredAddrs()) == 0 {
		return errors.Join(usageError("neither --inbound nor --outbound given, and no Sidecar with listeners in the configuration: there is nothing to serve"), s.Shutdown(cmd.Context()))
	}
	ceded, err := older.succeed(cmd.Context(), s)
	if err != nil {
		return errors.Join(err, s.Shutdown(cmd.Context()))
	}
	log.Info("heddle proxy is ready", listening(s, o.inbound)...)
	v := &supervisor{sidecar: s, signals: signals, quit: quit, delay: o.delay, drain: o.drain, log: log, reload: again.reload, ceded: ceded}
	if len(args) > 0 {
		if v.child, err = startChild(cmd, stderr, args, s.OutboundAddr()); err != nil {
			v.finish(0)
			return err
		}
	}
	if code := v.run(cmd.Context()); code != exitOK {
		return &failure{code: code}
	}
	return nil
}

// endpointSocket is the variable by which SPIFFE says where the Workload API is (SPIFFE Workload Endpoint §4).
const endpointSocket = "SPIFFE_ENDPOINT_SOCKET"

// identity gives the source of the identity, nil for none.
func (o *proxyFlags) identity() mesh.IdentitySource {
	switch {
	case o.svid.Certificate != "":
		return o.svid
	case o.api.Address != "":
		return o.api
	}
	return nil
}

// check completes the flags from the environment and refuses what makes no sense.
func (o *proxyFlags) check(cmd *cobra.Command, args []string) error {
	if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
		return usageError("unexpected argument %q; a command follows after --", args[0])
	}
	if err := settingsFrom(cmd, os.LookupEnv); err != nil {
		return err
	}
	if o.transparent && !cmd.Flags().Changed("outbound") {
		o.outbound = "none"
	}
	if err := o.checkListeners(); err != nil {
		return err
	}
	if o.svid.Certificate == "" && o.api.Address == "" {
		o.api.Address = os.Getenv(endpointSocket)
	}
	switch {
	case len(o.config) == 0:
		return usageError("no --config given; for the directory you are in: --config .")
	case slices.Contains(o.config, ""):
		return usageError("a path is empty")
	case slices.Contains(o.config, stdinName):
		return usageError("standard input is the command's: give --config a file or directory")
	case o.transparent && len(args) > 0:
		return usageError("--transparent starts no command: that would run as the sidecar's user, whose connections are not captured")
	case o.takeover != "" && len(args) > 0:
		return usageError("--takeover starts no command: two of them would listen on the same port")
	case o.tproxy && !o.transparent:
		return usageError("--tproxy goes with --transparent")
	case o.connects && listenAddress(o.outbound) == "":
		return usageError("--allow-connect goes with --outbound")
	case o.serverFirst <= 0:
		return usageError("--server-first is nothing or negative")
	case o.still < 0:
		return usageError("--stream-idle-timeout is negative")
	case (o.svid.Certificate == "") != (o.svid.Key == "") || (o.svid.Key == "") != (o.svid.Bundle == ""):
		return usageError("--svid, --svid-key and --svid-bundle belong together")
	case o.svid.Certificate != "" && o.api.Address != "":
		return usageError("--svid and --workload-api are two identities: give one")
	case o.api.Hint != "" && o.api.Address == "":
		return usageError("--workload-api-hint goes with --workload-api")
	case o.api.Address != "" && workloadapi.CheckAddress(o.api.Address) != nil:
		return usageError("--workload-api: %w", workloadapi.CheckAddress(o.api.Address))
	case o.delay < 0:
		return usageError("--drain-delay is negative")
	case o.drain < 0:
		return usageError("--drain-timeout is negative")
	case len(args) > 0 && args[0] == "":
		return usageError("the command is empty")
	}
	return nil
}

// capture gives the listeners for captured connections, none without --transparent.
func (o *proxyFlags) capture() proxy.Capture {
	if !o.transparent {
		return proxy.Capture{}
	}
	c := proxy.Capture{TPROXY: o.tproxy, Opaque: o.opaque, ProxyProtocol: o.proxied, ServerFirst: o.serverFirst, Inbound: []string{":" + strconv.Itoa(int(o.capturedIn))}}
	for _, host := range loopbacks() {
		c.Outbound = append(c.Outbound, net.JoinHostPort(host, strconv.Itoa(int(o.capturedOut))))
	}
	return c
}

// loopbacks gives the loopback addresses that the machine has: it may have no IPv6.
func loopbacks() []string {
	var all []string
	for _, host := range []string{"127.0.0.1", "::1"} {
		if l, err := net.Listen("tcp", net.JoinHostPort(host, "0")); err == nil {
			_ = l.Close()
			all = append(all, host)
		}
	}
	return all
}

// names gives the listeners for queries.
func (o *proxyFlags) names() proxy.DNS {
	d := proxy.DNS{Listen: o.dns, Upstreams: o.dnsUpstreams, NoAutomatic: !o.dnsAutomatic}
	if o.dns == nil && o.transparent {
		for _, host := range loopbacks() {
			d.Listen = append(d.Listen, net.JoinHostPort(host, strconv.Itoa(capture.DNSPort)))
		}
	}
	return d
}

// checkListeners refuses addresses that are none, or are given to two listeners.
func (o *proxyFlags) checkListeners() error {
	type listener struct{ flag, address string }
	var all []listener
	for _, to := range o.outboundTCP {
		all = append(all, listener{"outbound-tcp", to.Listen})
	}
	for _, in := range o.inbound {
		all = append(all, listener{"inbound", in.Listen})
	}
	all = append(all, listener{"outbound", listenAddress(o.outbound)}, listener{"admin", listenAddress(o.admin)}, listener{"health", listenAddress(o.health)})
	for i, l := range all {
		if l.address == "" {
			continue
		}
		if path, ok := strings.CutPrefix(l.address, "unix://"); ok && l.flag == "admin" && strings.HasPrefix(path, "/") {
			continue
		}
		if err := checkAddress(l.address); err != nil {
			return usageError("--%s %s: %w", l.flag, l.address, err)
		}
		for _, other := range all[:i] {
			if l.address == other.address && !strings.HasSuffix(l.address, ":0") {
				return usageError("--%s and --%s both listen on %s", other.flag, l.flag, l.address)
			}
		}
	}
	return nil
}

// mesh starts the mesh. Where its configuration is refused, the findings go to stderr as analyze has them.
func (o *proxyFlags) mesh(cmd *cobra.Command, opts ...mesh.Option) (*mesh.Mesh, error) {
	opts = append(opts, mesh.WithIgnoredKinds(o.ignore...),
		mesh.WithOutboundTrafficPolicy(policyOf(o.policy)), mesh.WithPreset(presetOf(o.preset)))
	if o.strict {
		opts = append(opts, mesh.WithStrictConfig())
	}
	m, err := mesh.New(cmd.Context(), opts...)
	if refused, ok := errors.AsType[*mesh.ConfigError](err); ok {
		return nil, refusal(refused, cmd.ErrOrStderr())
	}
	return m, err
}

// listening names the addresses, which may have been chosen by the system.
func listening(s *proxy.Sidecar, in inbounds) []any {
	var all []any
	for i, a := range s.InboundAddrs() {
		all = append(all, "inbound", a.String(), "app", in[i].App)
	}
	for _, l := range []struct {
		name string
		addr net.Addr
	}{{"outbound", s.OutboundAddr()}, {"admin", s.AdminAddr()}, {"health", s.HealthAddr()}} {
		if l.addr != nil {
			all = append(all, l.name, l.addr.String())
		}
	}
	for _, a := range s.CaptureAddrs() {
		all = append(all, "captured", a.String())
	}
	for _, a := range s.DNSAddrs() {
		all = append(all, "dns", a.String())
	}
	for _, a := range s.DeclaredAddrs() {
		all = append(all, "declared", a.String())
	}
	return all
}

func proxyVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return versionOf(info).Version
}

// A lockedWriter is for lines of several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// A replyLog writes a line for every answer of the proxy's own and for what policies had to say, as long as there are few: when everything
// fails, writing about it must not be what fails next.
type replyLog struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	second  int64
	written int
	left    uint64 // out since the last line
}

const repliesPerSecond = 20

func (r *replyLog) report(l proxy.LocalReply) {
	switch l.Reason {
	case proxy.Denied, proxy.Unauthenticated, proxy.ExternalDenied, proxy.ExternalFailed:
		return // decided hears of it, and of those over HTTP/2
	}
	r.write("answered by the proxy", "direction", l.Direction, "status", l.Status, "flag", l.Flag, "reason", l.Reason,
		"method", l.Method, "host", l.Host, "details", l.Details())
}

// decided writes what policies had to say.
func (r *replyLog) decided(ev mesh.PolicyEvent) {
	message := "request audited"
	attrs := []any{"method", ev.Method, "host", ev.Host, "path", ev.Path, "source", ev.Source.String()}
	if ev.Principal != "" {
		attrs = append(attrs, "principal", ev.Principal)
	}
	if ev.Decision.Audit != "" {
		attrs = append(attrs, "audit", ev.Decision.Audit)
	}
	if ev.Decision.Shadow != authz.None {
		message = "request decided on by a dry run"
		attrs = append(attrs, "dry_run", ev.Decision.Shadow.String(), "dry_run_rule", ev.Decision.ShadowRule)
	}
	switch {
	case ev.Status != 0:
		message = "request denied"
	case ev.Err != nil:
		message = "request let in by failOpen"
	}
	if ev.Details != "" {
		attrs = append(attrs, "details", ev.Details)
	}
	if ev.Flag != "" || ev.Err != nil {
		attrs = append(attrs, "rule", ev.Decision.Rule)
	}
	if ev.Flag != "" {
		attrs = append(attrs, "status", ev.Status, "flag", ev.Flag)
	}
	if ev.Err != nil {
		attrs = append(attrs, "error", ev.Err)
	}
	r.write(message, attrs...)
}

func (r *replyLog) write(message string, attrs ...any) {
	now := time.Now().Unix()
	r.mu.Lock()
	if now != r.second {
		r.second, r.written = now, 0
	}
	r.written++
	full := r.written > repliesPerSecond
	left := r.left
	if r.left++; !full {
		r.left = 0
	}
	r.mu.Unlock()
	if full {
		return
	}
	if left > 0 {
		attrs = append(attrs, "unlogged", left)
	}
	r.log.Warn(message, attrs...)
}

// cut gives a context for the end of something: it ends after d, and at once where d is zero.
func cut(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// listenAddress reads "none" as no listener.
func listenAddress(s string) string {
	if strings.EqualFold(s, "none") {
		return ""
	}
	return s
}

func checkAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("expected host:port")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("expected a port from 0 to 65535")
	}
	return nil
}
