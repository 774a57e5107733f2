package cli

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

const inspectedMesh = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: versions, namespace: default}
spec: {host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: split, namespace: default}
spec: {hosts: [reviews], http: [{name: new, match: [{uri: {prefix: /new}}], route: [{destination: {host: reviews, subset: v2}}]}, {route: [{destination: {host: reviews}}]}]}
`

// inspectedProxy is a running sidecar of its own mesh; it gives the address of its admin pages.
func inspectedProxy(t *testing.T) (*mesh.Mesh, *proxy.Sidecar) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w := mesh.Workload{Name: "web-v1", Namespace: "default"}
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(inspectedMesh)), mesh.WithLogger(log), mesh.WithWorkload(w))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	s, err := proxy.Start(proxy.Config{Mesh: m, Inbound: []proxy.Inbound{{Listen: "127.0.0.1:0", App: "127.0.0.1:1"}}, Outbound: "127.0.0.1:0",
		Admin: "127.0.0.1:0", Workload: w, Version: "v9", Logger: log, LogLevel: new(slog.LevelVar)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
	})
	return m, s
}

// words gives the lines of a table with one space between the columns.
func words(table string) string {
	var b strings.Builder
	for line := range strings.Lines(table) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

// TestInspection: istioctl's columns and flags, of a running sidecar.
func TestInspection(t *testing.T) {
	t.Parallel()
	m, s := inspectedProxy(t)
	admin := s.AdminAddr().String()
	_, in, _ := net.SplitHostPort(s.InboundAddrs()[0].String())
	_, out, _ := net.SplitHostPort(s.OutboundAddr().String())
	const fqdn = "reviews.default.svc.cluster.local"
	for _, c := range []struct{ args, want string }{
		{"proxy-config clusters", "SERVICE FQDN PORT SUBSET DIRECTION TYPE DESTINATION RULE\n" + fqdn + " 9080 - outbound EDS versions.default\n" + fqdn + " 9080 v2 outbound EDS versions.default\n"},
		{"pc c --subset v2", "SERVICE FQDN PORT SUBSET DIRECTION TYPE DESTINATION RULE\n" + fqdn + " 9080 v2 outbound EDS versions.default\n"},
		{"pc cluster --port 80", "SERVICE FQDN PORT SUBSET DIRECTION TYPE DESTINATION RULE\n"},
		{"pc ep --cluster outbound|9080|v2|" + fqdn, "ENDPOINT STATUS OUTLIER CHECK CLUSTER\n10.0.0.2:9080 HEALTHY OK outbound|9080|v2|" + fqdn + "\n"},
		{"pc endpoints --status unhealthy", "ENDPOINT STATUS OUTLIER CHECK CLUSTER\n"},
		{"pc endpoint --address 10.0.0.1 --port 9080", "ENDPOINT STATUS OUTLIER CHECK CLUSTER\n10.0.0.1:9080 HEALTHY OK outbound|9080||" + fqdn + "\n"},
		{"pc routes --name 9080", "NAME VHOST NAME DOMAINS MATCH VIRTUAL SERVICE\n"},
		{"pc r --name 81", "NAME VHOST NAME DOMAINS MATCH VIRTUAL SERVICE\n"},
		{"pc listeners", "ADDRESSES PORT MATCH DESTINATION\n127.0.0.1 " + in + " ALL Cluster: inbound|" + in + "|| (127.0.0.1:1)\n127.0.0.1 " + out + " ALL Route: by Host\n"},
		{"pc l --port " + in + " --address 127.0.0.1", "ADDRESSES PORT MATCH DESTINATION\n127.0.0.1 " + in},
		{"pc secrets", "no identity\n"},
		{"proxy-status", "NAME ADMIN STATE CONFIG SERVES VERSION\nweb-v1.default " + admin + " LIVE SYNCED "},
		{"ps -o yaml", "- \"admin\": \"" + admin + "\"\n\"config\": \"SYNCED\"\n"},
		{"pc listeners -o yaml", "- \"address\": \"127.0.0.1:" + in + "\"\n\"app\": \"127.0.0.1:1\"\n\"name\": \"inbound\"\n- \"address\""},
	} {
		r := heddle(t, "", append(strings.Fields(c.args), "--admin", admin)...)
		if got := words(r.stdout); r.code != exitOK || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: exit code %d\n%s%s, want\n%s", c.args, r.code, got, r.stderr, c.want)
		}
	}
	r := heddle(t, "", "pc", "routes", "--admin", admin)
	for _, want := range []string{" split.default\n", "9080 " + fqdn + ":9080 reviews.default, " + fqdn + " + 2 more... ", "/new"} {
		if !strings.Contains(words(r.stdout), want) {
			t.Errorf("routes have no %q:\n%s", want, words(r.stdout))
		}
	}
	r = heddle(t, "", "pc", "all", "--admin", admin, "-o", "json")
	var all everything
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || len(all.Clusters) != 2 || len(all.Listeners) != 3 || len(all.Routes) != 1 || len(all.Routes[0].Routes) != 2 {
		t.Errorf("all: %v\n%s", err, r.stdout)
	}
	if err := m.Apply(t.Context(), []byte("kind: VirtualService\n")); err == nil {
		t.Fatal("a document without a name is taken")
	}
	if r = heddle(t, "", "ps", "--admin", admin); r.code != exitOK || !strings.Contains(r.stdout, " ERROR ") {
		t.Errorf("status after a refusal:\n%s", r.stdout)
	}
}

// TestInspectionOfMany: a list, a directory of sockets, and who cannot be asked.
func TestInspectionOfMany(t *testing.T) {
	t.Parallel()
	m, s := inspectedProxy(t)
	dir := t.TempDir()
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "a.sock"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: m.AdminHandler()}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	r := heddle(t, "", "pc", "clusters", "--admin", dir, "--admin", s.AdminAddr().String())
	if r.code != exitOK || strings.Count(r.stdout, "SERVICE FQDN") != 2 || !strings.Contains(r.stdout, "# unix://"+l.Addr().String()) {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r = heddle(t, "", "ps", "--admin", l.Addr().String()+","+s.AdminAddr().String()); r.code != exitOK || strings.Count(r.stdout, "SYNCED") != 2 || strings.Count(r.stdout, "web-v1.default") != 2 {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r = heddle(t, "", "ps", "--admin", "unix://"+filepath.Join(dir, "none")+","+s.AdminAddr().String()); r.code == exitOK {
		t.Errorf("one that is not there: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r = heddle(t, "", "pc", "clusters", "--admin", filepath.Join(dir, "none")); r.code != exitInput && r.code != exitFailed {
		t.Errorf("no such directory: exit code %d\n%s", r.code, r.stderr)
	}
	if r = heddle(t, "", "pc", "clusters", "--admin", "x"); r.code != exitUsage {
		t.Errorf("no address: exit code %d\n%s", r.code, r.stderr)
	}
}

// TestAdminSocket: a proxy's admin pages on a Unix socket that is its owner's alone, asked by its path and by its directory.
func TestAdminSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "s") //nolint:usetesting // t.TempDir's name can be longer than a socket's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m, _ := inspectedProxy(t)
	admin := "unix://" + filepath.Join(dir, "admin.sock")
	s, err := proxy.Start(proxy.Config{Mesh: m, Outbound: "127.0.0.1:0", Admin: admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown(t.Context()) })
	info, err := os.Stat(filepath.Join(dir, "admin.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	for _, at := range []string{admin, dir, filepath.Join(dir, "admin.sock")} {
		if r := heddle(t, "", "ps", "--admin", at); r.code != exitOK || !strings.Contains(r.stdout, "SYNCED") {
			t.Errorf("proxy-status at %s: exit code %d\n%s%s", at, r.code, r.stdout, r.stderr)
		}
		if r := heddle(t, "", "pc", "clusters", "--admin", at); r.code != exitOK || !strings.Contains(r.stdout, "SERVICE FQDN") {
			t.Errorf("proxy-config at %s: exit code %d\n%s%s", at, r.code, r.stdout, r.stderr)
		}
		if r := heddle(t, "", "graph", "--admin", at); r.code != exitOK {
			t.Errorf("graph at %s: exit code %d\n%s%s", at, r.code, r.stdout, r.stderr)
		}
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "admin.sock")); err == nil {
		t.Error("the socket is left over")
	}
	if r := heddle(t, "", "proxy", "--config", dir, "--outbound", "unix:///a"); r.code != exitUsage {
		t.Errorf("an outbound listener on a socket: exit code %d\n%s", r.code, r.stderr)
	}
}
