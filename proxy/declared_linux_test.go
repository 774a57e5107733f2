package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/internal/socket"
	"github.com/heddlemesh/mesh/proxy"
)

// sidecarOf is a Sidecar for the whole namespace, before other documents.
func sidecarOf(spec string) string {
	return "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: web}\nspec:\n  " + strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  ") + "\n---\n"
}

func portText(t testing.TB, address string) string {
	t.Helper()
	return strconv.Itoa(int(portOf(t, address)))
}

// listens reports whether the sidecar has a listener that was asked for by this address.
func listens(r *rig, address string) bool {
	return slices.ContainsFunc(r.sidecar.Listeners(), func(l proxy.BoundListener) bool { return l.Address == address })
}

// awaitThat waits for what a new configuration brings about, which is a moment after it is live.
func awaitThat(t testing.TB, what string, so func() bool) {
	t.Helper()
	for !so() {
		select {
		case <-t.Context().Done():
			t.Fatal(what)
		default:
			runtime.Gosched()
		}
	}
}

func connect(t testing.TB, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// socketPath gives a path that is short enough for a socket.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dl") //nolint:usetesting // t.TempDir's names are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// TestDeclaredInbound: ports that a Sidecar lists are served by the sidecar itself, and lead where it says.
func TestDeclaredInbound(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	l, err := socket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go speakFirst(l, "by socket")
	web, bytes := loopback.Free(t), loopback.Free(t)
	app := upstream(t, saying("the program"))
	r := start(t, sidecarOf(fmt.Sprintf(`
ingress:
- {port: {number: %s, protocol: HTTP, name: web}, bind: 127.0.0.1, defaultEndpoint: "127.0.0.1:%s"}
- {port: {number: %s, protocol: TCP, name: db}, bind: 127.0.0.1, defaultEndpoint: "unix://%s", connectionPool: {tcp: {maxConnections: 1}}}
- {port: {number: 9, protocol: TCP, name: captured}, captureMode: IPTABLES}
inboundConnectionPool: {tcp: {maxConnections: 7}}`, portText(t, web), portText(t, app), portText(t, bytes), path))+`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: denied}
spec: {action: DENY, rules: [{to: [{operation: {ports: ["`+portText(t, web)+`"], paths: [/secret]}}]}]}
`, nil)
	if got := asked(t, connect(t, "tcp", web), "web.example.com"); got != "200 the program for web.example.com" {
		t.Errorf("HTTP: %q", got)
	}
	if resp, _ := exchange(t, web, "GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a path that policies deny: %d", resp.StatusCode)
	}
	first := connect(t, "tcp", bytes)
	if got := greeting(first); got != "by socket" {
		t.Errorf("TCP: %q", got)
	}
	if got := greetingAt(t, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(bytes))); got != "reset" {
		t.Errorf("one more than the port's connectionPool lets in: %q", got)
	}
	if in := &r.mesh.Engine().Snapshot().Inbound; in.Most(9) != 7 || in.Most(10) != 7 {
		t.Errorf("ports without a pool of their own: %d, %d", in.Most(9), in.Most(10))
	}
	if n := len(r.sidecar.Listeners()); n != 3 { // with the outbound one
		t.Errorf("%d listeners", n)
	}
}

// TestDeclaredCaptured: what is captured on its way to a port that a Sidecar lists goes where that says, as what it says; other ports as
// before.
func TestDeclaredCaptured(t *testing.T) {
	t.Parallel()
	web, db := upstream(t, saying("the program")), speaking(t, "db")
	_, kernel, _, in := capturing(t, sidecarOf(fmt.Sprintf(`
ingress:
- {port: {number: 81, protocol: HTTP, name: web}, defaultEndpoint: "127.0.0.1:%s"}
- {port: {number: 82, protocol: TCP, name: db}, captureMode: IPTABLES, defaultEndpoint: "0.0.0.0:%s"}
- {port: {number: 83, protocol: HTTP, name: text}, defaultEndpoint: "127.0.0.1:%[2]s"}`, portText(t, web), portText(t, db))), nil)
	if got := asked(t, kernel.dial(t, in, "127.0.0.1:81"), "web.example.com"); got != "200 the program for web.example.com" {
		t.Errorf("a port that is listed: %q", got)
	}
	if got := greeting(kernel.dial(t, in, "127.0.0.1:82")); got != "db" { // nobody waits for a first byte there
		t.Errorf("a port of TCP that is listed: %q", got)
	}
	c := kernel.dial(t, in, "127.0.0.1:83")
	if _, err := io.WriteString(c, "no HTTP at all\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := response(c); !strings.HasPrefix(got, "400 ") {
		t.Errorf("what is no HTTP on a port that is: %q", got)
	}
	if got := asked(t, kernel.dial(t, in, web), "web.example.com"); got != "200 the program for web.example.com" {
		t.Errorf("a port that is not listed: %q", got)
	}
}

// TestDeclaredOutbound: listeners for calls have the hosts that they list: on their port, or on all ports where that is a socket's or a proxy's.
func TestDeclaredOutbound(t *testing.T) {
	t.Parallel()
	web, db, secret, known, second, path := loopback.Free(t), loopback.Free(t), loopback.Free(t), loopback.Free(t), loopback.Free(t), socketPath(t)
	serving := httptest.NewTLSServer(saying("secret"))
	t.Cleanup(serving.Close)
	number := func(address string) int { return atoi(portText(t, address)) }
	config := sidecarOf(fmt.Sprintf(`
egress:
- {port: {number: %d, protocol: HTTP, name: web}, captureMode: NONE, hosts: [./reviews.example.com]}
- {port: {number: %d, protocol: MYSQL, name: db}, captureMode: NONE, bind: 127.0.0.1, hosts: [./*]}
- {port: {number: %d, protocol: TLS, name: tls}, captureMode: NONE, hosts: [./*]}
- {port: {number: %d, protocol: HTTP_PROXY, name: proxy}, hosts: [./ratings.example.com]}
- {port: {number: %d, protocol: HTTP_PROXY, name: another}, hosts: [./reviews.example.com]}
- {port: {number: 0, protocol: HTTP, name: socket}, bind: "unix://%s", hosts: [./details.example.com]}
- {port: {number: 1, protocol: HTTP, name: here}, hosts: [./*]}
outboundTrafficPolicy: {mode: REGISTRY_ONLY}`, number(web), number(db), number(secret), number(known), number(second), path)) +
		entry("reviews.example.com", "", "HTTP", number(web), upstream(t, saying("reviews"))) +
		entry("details.example.com", "", "HTTP", 8080, upstream(t, saying("details"))) +
		entry("ratings.example.com", "", "HTTP", 9080, upstream(t, saying("ratings"))) +
		entry("db.example.com", "", "MYSQL", number(db), speaking(t, "db")) + entry("secret.example.com", "", "TLS", number(secret), serving.Listener.Addr().String())
	r := start(t, config, nil)
	for _, c := range []struct{ name, network, address, host, want string }{
		{"by name", "tcp", web, "reviews.example.com", "200 reviews for reviews.example.com"},
		{"by name and port", "tcp", web, "reviews.example.com:" + portText(t, web), "200 reviews for reviews.example.com:" + portText(t, web)},
		{"a host of another listener", "tcp", web, "details.example.com", "502 "},
		{"at a proxy", "tcp", known, "ratings.example.com:9080", "200 ratings for ratings.example.com:9080"},
		{"at a proxy, without the port", "tcp", known, "ratings.example.com", "502 "},
		{"at a proxy, another's host", "tcp", known, "reviews.example.com:" + portText(t, web), "502 "},
		{"at another proxy", "tcp", second, "reviews.example.com:" + portText(t, web), "200 reviews "},
		{"at another proxy, the first one's host", "tcp", second, "ratings.example.com:9080", "502 "},
		{"by socket", "unix", path, "details.example.com:8080", "200 details for details.example.com:8080"},
		{"by socket, another's host", "unix", path, "ratings.example.com:9080", "502 "},
		{"at the outbound listener, a host of a listener of its own", "tcp", r.sidecar.OutboundAddr().String(), "details.example.com:8080", "502 "},
		{"at the outbound listener, a host of a port", "tcp", r.sidecar.OutboundAddr().String(), "reviews.example.com:" + portText(t, web), "200 "},
	} {
		if got := asked(t, connect(t, c.network, c.address), c.host); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := greeting(connect(t, "tcp", db)); got != "db" {
		t.Errorf("the host of a port of TCP: %q", got)
	}
	if got := answeredBy(t, connect(t, "tcp", secret), "secret.example.com"); got != "200 secret for any" {
		t.Errorf("a name in a ClientHello: %q", got)
	}
	if got := answeredBy(t, connect(t, "tcp", secret), "other.example.com"); strings.HasPrefix(got, "200") {
		t.Errorf("a name that is no host's: %q", got)
	}
	http2 := clientOf(t, &http.Transport{Protocols: http2Only(), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}})
	for host, want := range map[string]string{"details.example.com:8080": "200 details", "ratings.example.com:9080": "502 "} {
		resp, err := http2.Get("http://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := fmt.Sprint(resp.StatusCode, " ", string(body)); !strings.HasPrefix(got, want) || resp.ProtoMajor != 2 {
			t.Errorf("HTTP/2, %s: %q", host, got)
		}
	}
}

func http2Only() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// TestDeclaredChange: listeners come, go and change with the configuration, and what others have under way goes on. One that cannot be
// opened is told of by its place, and opens when it can be.
func TestDeclaredChange(t *testing.T) {
	t.Parallel()
	one, two, taken := loopback.Free(t), loopback.Free(t), loopback.Free(t)
	a, b := speaking(t, "a"), speaking(t, "b")
	inbound := func(to string, ports ...string) []byte {
		spec := "ingress:"
		for _, address := range ports {
			spec += fmt.Sprintf("\n- {port: {number: %s, protocol: TCP, name: p}, bind: 127.0.0.1, defaultEndpoint: \"127.0.0.1:%s\"}", portText(t, address), portText(t, to))
		}
		return []byte(sidecarOf(spec))
	}
	r := start(t, string(inbound(a, one)), func(c *proxy.Config) { c.Admin = "127.0.0.1:0" })
	change := func(doc []byte) {
		t.Helper()
		if err := r.mesh.Apply(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
	}
	under := connect(t, "tcp", one)
	if _, err := io.ReadFull(under, make([]byte, len("a\n"))); err != nil {
		t.Fatal(err)
	}
	echo := func() {
		t.Helper()
		if _, err := io.WriteString(under, "still"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(under, make([]byte, len("still"))); err != nil {
			t.Fatal(err)
		}
	}
	change(inbound(a, one, two))
	awaitThat(t, "the second does not come", func() bool { return listens(r, two) })
	if got := greeting(connect(t, "tcp", two)); got != "a" {
		t.Errorf("the second: %q", got)
	}
	change(inbound(b, one, two)) // on the same sockets
	awaitThat(t, "they do not change", func() bool { return greeting(connect(t, "tcp", one)) == "b" && greeting(connect(t, "tcp", two)) == "b" })
	echo()
	other, err := net.Listen("tcp", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	change(inbound(b, one, taken))
	awaitThat(t, "the second does not go", func() bool { return !listens(r, two) })
	if c, err := net.Dial("tcp", two); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the second: %v, %v", c, err)
	}
	told := func() string {
		resp, err := http.Get("http://" + r.sidecar.AdminAddr().String() + "/listeners")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	want := "inbound::" + taken + "::not open: Sidecar default/web ingress[1].port (<inline 1>:7:6): cannot listen on " + taken + ": "
	awaitThat(t, "nobody says that a port is taken", func() bool { return strings.Contains(told(), want) })
	if text := told(); !strings.Contains(text, "address already in use; give the listener another port or bind") {
		t.Errorf("no word of what would be right:\n%s", text)
	}
	echo()
	_ = other.Close()
	change(append(inbound(b, one, taken), []byte(service("more", "HTTP", a))...))
	awaitThat(t, "it is not tried again", func() bool { return listens(r, taken) })
	if got := greeting(connect(t, "tcp", taken)); got != "b" || strings.Contains(told(), "not open") {
		t.Errorf("when the port is free: %q\n%s", got, told())
	}
	change([]byte(service("more", "HTTP", a)))
	awaitThat(t, "they do not go", func() bool { return !listens(r, one) && !listens(r, taken) })
	echo()
}

// refusedStart gives why a sidecar does not start.
func refusedStart(t *testing.T, config string) error {
	t.Helper()
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(config)), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := proxy.Start(proxy.Config{Mesh: m, Guard: proxy.NewGuard(nil)})
	if err == nil {
		err = errors.Join(errors.New("it starts"), s.Shutdown(t.Context()))
	}
	return err
}

// TestDeclaredStart: a listener that cannot be opened at the start is an error that says where it is asked for.
func TestDeclaredStart(t *testing.T) {
	t.Parallel()
	taken := loopback.Free(t)
	l, err := net.Listen("tcp", taken)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	number, free, dir := portText(t, taken), portText(t, loopback.Free(t)), t.TempDir()
	for name, c := range map[string]struct{ spec, want string }{
		"taken":          {"ingress: [{port: {number: " + number + "}, bind: 127.0.0.1, defaultEndpoint: '127.0.0.1:1'}]", "Sidecar default/web ingress[0].port (<inline 1>:5:14): cannot listen on " + taken + ": listen tcp"},
		"no endpoint":    {"ingress: [{port: {number: " + number + "}, bind: 127.0.0.1}]", "defaultEndpoint is missing"},
		"itself":         {"ingress: [{port: {number: " + portText(t, loopback.Free(t)) + "}, defaultEndpoint: '127.0.0.1:ITSELF'}]", "is the sidecar's own inbound listener"},
		"not loopback":   {"egress: [{port: {number: " + number + ", protocol: HTTP}, captureMode: NONE, bind: 0.0.0.0, hosts: ['*/*']}]", "not a loopback address"},
		"nobody's":       {"egress: [{port: {number: " + number + ", protocol: HTTP}, captureMode: NONE, bind: 127.0.0.1, hosts: ['*/*']}]", "egress[0].port (<inline 1>:5:13): cannot listen"},
		"away":           {"ingress: [{port: {number: " + number + "}, bind: 192.0.2.1, defaultEndpoint: '127.0.0.1:1'}]", "this machine has no such address"},
		"one that calls": {"ingress: [{port: {number: " + portText(t, loopback.Free(t)) + "}, defaultEndpoint: '127.0.0.1:" + free + "'}]\negress: [{port: {number: " + free + ", protocol: HTTP}, captureMode: NONE, hosts: ['*/*']}]", "is the sidecar's own outbound listener"},
		"a Unix socket":  {"ingress: [{port: {number: " + portText(t, loopback.Free(t)) + "}, defaultEndpoint: 'unix://" + dir + "/../" + filepath.Base(dir) + "/s'}]\negress: [{port: {number: 0, protocol: HTTP}, bind: 'unix://" + dir + "/s', hosts: ['*/*']}]", "has its program there: give one of them another port, bind or endpoint"},
		"two of a place": {"ingress: [{port: {number: " + number + "}, bind: 127.0.0.1, defaultEndpoint: '127.0.0.1:1'}]\negress: [{port: {number: " + number + ", protocol: HTTP}, captureMode: NONE, hosts: ['*/*']}]", "has it; give one of them another port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, after, ok := strings.Cut(c.spec, "number: "); ok && strings.Contains(c.spec, "ITSELF") {
				own, _, _ := strings.Cut(after, "}")
				c.spec = strings.ReplaceAll(c.spec, "ITSELF", own)
			}
			err := refusedStart(t, sidecarOf(c.spec))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
