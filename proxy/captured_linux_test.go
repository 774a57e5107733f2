package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/proxy"
)

// A redirection stands for the kernel: it knows of each connection where it meant to go.
type redirection struct {
	mu    sync.Mutex
	known *sync.Cond
	to    map[string]netip.AddrPort
}

func newRedirection() *redirection {
	r := &redirection{to: make(map[string]netip.AddrPort)}
	r.known = sync.NewCond(&r.mu)
	return r
}

// destination waits for dial, which knows it a moment after the listener.
func (r *redirection) destination(c *net.TCPConn) (netip.AddrPort, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for from := c.RemoteAddr().String(); ; r.known.Wait() {
		if to, ok := r.to[from]; ok {
			return to, nil
		}
	}
}

// dial connects to a capture listener, as the kernel does for who meant to go to to.
func (r *redirection) dial(t testing.TB, listener net.Addr, to string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", listener.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r.mu.Lock()
	r.to[conn.LocalAddr().String()] = netip.MustParseAddrPort(to)
	r.known.Broadcast()
	r.mu.Unlock()
	return conn.(*net.TCPConn)
}

// capturing starts a sidecar for captured connections. It gives its outbound and its inbound listener.
func capturing(t testing.TB, config string, change func(*proxy.Config), opts ...mesh.Option) (r *rig, kernel *redirection, out, in net.Addr) {
	t.Helper()
	kernel = newRedirection()
	r = startMesh(t, config, func(c *proxy.Config) {
		c.Outbound = ""
		c.Capture = proxy.Capture{Outbound: []string{"127.0.0.1:0"}, Inbound: []string{"127.0.0.1:0"}, Destination: kernel.destination,
			ServerFirst: time.Hour} // nobody waits for it
		if change != nil {
			change(c)
		}
	}, opts...)
	all := r.sidecar.CaptureAddrs()
	return r, kernel, all[0], all[1]
}

// speaking serves a protocol in which the server speaks first, and then repeats what it hears until the client has ended.
func speaking(t testing.TB, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go speakFirst(l, name)
	return l.Addr().String()
}

// speakFirst serves the protocol until the listener ends.
func speakFirst(l net.Listener, name string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.WriteString(conn, name+"\n")
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// greeting reads the first line, or why there is none.
func greeting(c net.Conn) string {
	line, err := bufio.NewReader(c).ReadString('\n')
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case err != nil:
		return err.Error()
	}
	return strings.TrimSpace(line)
}

// asked makes a request of HTTP/1.1 and gives status and body.
func asked(t testing.TB, c net.Conn, host string) string {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return "reset" // before all was written
	} else if err != nil {
		return err.Error()
	}
	return response(c)
}

func response(c net.Conn) string {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if errors.Is(err, syscall.ECONNRESET) {
		return "reset"
	}
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(body))
}

// entry is a ServiceEntry with one endpoint; what has no address is told by host or port.
func entry(host, address, protocol string, port int, endpoint string) string {
	at, endpointPort, _ := net.SplitHostPort(endpoint)
	if address != "" {
		address = "\n  addresses: [" + address + "]"
	}
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s]%[2]s
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: %[4]d, name: p, protocol: %[3]s}]
  endpoints: [{address: %[5]s, ports: {p: %[6]s}}]
---
`, host, address, protocol, port, at, endpointPort)
}

// TestCapturedOutbound: what becomes of connections that the program makes, by where they meant to go and what is spoken.
func TestCapturedOutbound(t *testing.T) {
	t.Parallel()
	web, elsewhere := upstream(t, saying("web")), upstream(t, saying("elsewhere"))
	db, other := speaking(t, "db"), speaking(t, "other")
	mail, tlsServer := speaking(t, "mail"), httptest.NewTLSServer(saying("secret"))
	t.Cleanup(tlsServer.Close)
	secret := tlsServer.Listener.Addr().String()
	config := entry("web.example.com", "", "HTTP", 9080, web) + entry("db.example.com", "10.1.1.1", "TCP", 3306, db) +
		entry("mail.example.com", "", "TCP", 25, mail) + entry("secret.example.com", "", "TLS", 443, secret) +
		entry("vip.example.com", "10.1.1.2", "HTTP", 80, web)
	port := func(address string) string { _, p, _ := net.SplitHostPort(address); return p }
	elsewherePort := port(elsewhere)
	for _, policy := range []mesh.OutboundTrafficPolicy{mesh.AllowAny, mesh.RegistryOnly} {
		// The ports of what the mesh does not know are those of a service too.
		_, kernel, out, _ := capturing(t, config+entry("beside.example.com", "", "HTTP", atoi(elsewherePort), web), nil, mesh.WithOutboundTrafficPolicy(policy))
		either := func(allowed, registered string) string {
			if policy == mesh.AllowAny {
				return allowed
			}
			return registered
		}
		const unknown = "502 the host is not in the registry"
		for _, c := range []struct{ name, got, want string }{
			{"a host of the mesh", asked(t, kernel.dial(t, out, "10.9.9.9:9080"), "web.example.com:9080"), "200 web for web.example.com:9080"},
			{"a host without its port", asked(t, kernel.dial(t, out, "10.9.9.9:9080"), "web.example.com"), "200 web for web.example.com"},
			{"a service by its address", asked(t, kernel.dial(t, out, "10.1.1.2:80"), "10.1.1.2"), "200 web for 10.1.1.2"},
			{"an unknown host, on a port of a service", asked(t, kernel.dial(t, out, elsewhere), "web.invalid"), either("200 elsewhere for web.invalid", unknown)},
			{"an unknown host with an address of its own", asked(t, kernel.dial(t, out, elsewhere), web), either("200 elsewhere for "+web, unknown)},
			{"an address of a service of TCP", greeting(kernel.dial(t, out, "10.1.1.1:3306")), "db"},
			{"a port of a service of TCP", greeting(kernel.dial(t, out, "10.9.9.9:25")), "mail"},
			{"another address, on a port that only services with addresses have", greeting(kernel.dial(t, out, "127.0.0.1:"+port(other))), either("other", "reset")},
		} {
			if c.got != c.want && !(c.want == unknown && strings.HasPrefix(c.got, "502 ")) {
				t.Errorf("%s, %s: %q, want %q", policy, c.name, c.got, c.want)
			}
		}
		// Over HTTP/2 too.
		tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) {
			return kernel.dial(t, out, elsewhere), nil
		}}
		tr.Protocols.SetUnencryptedHTTP2(true)
		for host, want := range map[string]string{"beside.example.com": "200 web for beside.example.com", "web.invalid": either("200 elsewhere for web.invalid", unknown)} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/", nil)
			req.Host = host
			resp, err := clientOf(t, tr).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if got := fmt.Sprint(resp.StatusCode, " ", string(body)); got != want && !(want == unknown && resp.StatusCode == 502) {
				t.Errorf("%s, HTTP/2 to %s: %q, want %q", policy, host, got, want)
			}
		}
		// TLS by the name in its ClientHello.
		for name, shakes := range map[string]bool{"secret.example.com": true, "other.invalid": false} {
			if !shakes && policy == mesh.AllowAny {
				continue // it would go to 10.9.9.9
			}
			c := tls.Client(kernel.dial(t, out, "10.9.9.9:443"), &tls.Config{ServerName: name, InsecureSkipVerify: true})
			if err := c.Handshake(); (err == nil) != shakes {
				t.Errorf("%s, TLS to %s: %v", policy, name, err)
			}
		}
	}
}

func atoi(s string) int {
	n := 0
	_, _ = fmt.Sscan(s, &n)
	return n
}

// TestCapturedStraight is rows B-100 and B-101: whoever connects to a port for captured connections himself gets nowhere, on both
// sides, and no connection is made for him.
func TestCapturedStraight(t *testing.T) {
	t.Parallel()
	r, kernel, out, in := capturing(t, "", nil)
	for name, c := range map[string]struct {
		listener net.Addr
		to       string
	}{
		"out": {out, out.String()}, "in": {in, in.String()}, "out, to the other": {out, in.String()}, "in, to the other": {in, out.String()},
		"out, by another spelling": {out, "[::ffff:127.0.0.1]:" + out.String()[strings.LastIndexByte(out.String(), ':')+1:]},
	} {
		conn := kernel.dial(t, c.listener, c.to)
		if got := greeting(conn); got != "reset" {
			t.Errorf("%s: %q", name, got)
		}
		if l := <-r.told; l.Reason != proxy.NotCaptured {
			t.Errorf("%s: %+v", name, l)
		}
	}
	// Row B-101: whichever way the address is written, it is the one that is dialled that counts.
	for _, address := range []string{"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[64:ff9b::a9fe:a9fe]:80", "[2002:a9fe:a9fe::]:80", "[fd00:ec2::254]:80", "[fe80::1]:80",
		"100.100.100.200:80", "[::ffff:168.63.129.16]:80"} {
		conn := kernel.dial(t, out, address)
		if got := greeting(conn); got != "reset" {
			t.Errorf("%s: %q", address, got)
		}
		if l := <-r.told; l.Reason != "destination_refused" {
			t.Errorf("%s: %+v", address, l)
		}
	}
}

// TestCapturedHalfClose is row B-106: a client that has said all still hears all, and a reset goes through.
func TestCapturedHalfClose(t *testing.T) {
	t.Parallel()
	echo := speaking(t, "echo")
	_, kernel, out, in := capturing(t, "", nil)
	data := bytes.Repeat([]byte("0123456789abcdef"), 256<<10)
	for name, listener := range map[string]net.Addr{"out": out, "in": in} {
		conn := kernel.dial(t, listener, echo)
		sent := make(chan error, 1)
		go func() {
			_, err := conn.Write(append([]byte{0}, data...))
			sent <- errors.Join(err, conn.CloseWrite())
		}()
		got, err := io.ReadAll(conn)
		if werr := <-sent; err != nil || werr != nil || !bytes.Equal(got, append([]byte("echo\n\x00"), data...)) {
			t.Errorf("%s: %d bytes, %v, %v", name, len(got), err, werr)
		}
	}
}

// TestCapturedInbound: what becomes of connections to the program.
func TestCapturedInbound(t *testing.T) {
	t.Parallel()
	app := upstream(t, saying("app"))
	first, denied := speaking(t, "first"), speaking(t, "denied")
	portOf := func(address string) int { return atoi(address[strings.LastIndexByte(address, ':')+1:]) }
	policies := fmt.Sprintf(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: denied}
spec:
  action: DENY
  rules:
  - to: [{operation: {ports: ["%d"]}}]
  - to: [{operation: {ports: ["%d"], paths: [/secret]}}]
`, portOf(denied), portOf(app))
	r, kernel, _, in := capturing(t, policies, func(c *proxy.Config) {
		c.Capture.Opaque = []uint16{uint16(portOf(first)), uint16(portOf(denied))}
	})
	if got := asked(t, kernel.dial(t, in, app), "any"); got != "200 app for any" {
		t.Errorf("HTTP: %q", got)
	}
	c := kernel.dial(t, in, app)
	_, _ = io.WriteString(c, "GET /secret HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
	if got := response(c); !strings.HasPrefix(got, "403 ") {
		t.Errorf("HTTP, denied: %q", got)
	}
	// What is no HTTP to us, a policy that denies by path denies too.
	c = kernel.dial(t, in, app)
	_, _ = io.WriteString(c, "get /secret HTTP/1.1\r\nHost: any\r\n\r\n")
	if got := response(c); got != "reset" {
		t.Errorf("small letters: %q", got)
	}
	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) { return kernel.dial(t, in, app), nil }}
	tr.Protocols.SetUnencryptedHTTP2(true)
	for path, want := range map[string]int{"/": 200, "/secret": 403} {
		resp, err := clientOf(t, tr).Get("http://any" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("HTTP/2 %s: %d", path, resp.StatusCode)
		}
	}
	if got := greeting(kernel.dial(t, in, first)); got != "first" {
		t.Errorf("the program speaks first: %q", got)
	}
	for len(r.told) > 0 {
		<-r.told
	}
	if got := greeting(kernel.dial(t, in, denied)); got != "reset" {
		t.Errorf("denied: %q", got)
	}
	if l := <-r.told; l.Reason != proxy.Denied {
		t.Errorf("denied: %+v", l)
	}
	// A port on which nobody listens: that of a client.
	c = kernel.dial(t, in, c.LocalAddr().String())
	_, _ = c.Write([]byte{0})
	if got := greeting(c); got != "reset" {
		t.Errorf("a port that nobody has: %q", got)
	}
}

// TestCapturedSilent: who says nothing is served by a program that speaks first, and by none under STRICT.
func TestCapturedSilent(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	app := speaking(t, "app")
	for _, mode := range []string{"", strict} {
		_, kernel, _, in := capturing(t, mode, func(c *proxy.Config) { c.Capture.ServerFirst = time.Millisecond }, as(t, a, "app"))
		got := greeting(kernel.dial(t, in, app))
		if mode == "" && got != "app" || mode != "" && got == "app" {
			t.Errorf("%q: %q", mode, got)
		}
	}
}

// TestCapturedPair: a program that speaks TCP calls another through two sidecars, by mutual TLS, and HTTP goes as well.
func TestCapturedPair(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	db, web := speaking(t, "db"), upstream(t, saying("web"))
	var meant atomic.Value // where connections to the callee meant to go
	callee, _, _, in := capturing(t, strict, func(c *proxy.Config) {
		c.Capture.Destination = func(*net.TCPConn) (netip.AddrPort, error) { return netip.MustParseAddrPort(meant.Load().(string)), nil }
	}, as(t, a, "db"))
	account := func(doc string) string {
		return strings.Replace(doc, "endpoints: [{", "endpoints: [{serviceAccount: db, ", 1)
	}
	_, kernel, out, _ := capturing(t, account(entry("db.example.com", "10.1.1.1", "TCP", 3306, in.String()))+
		account(entry("web.example.com", "", "HTTP", 80, in.String())), nil, as(t, a, "client"))
	meant.Store(db)
	conn := kernel.dial(t, out, "10.1.1.1:3306")
	if got := greeting(conn); got != "db" {
		t.Errorf("TCP: %q", got)
	}
	plain, err := net.Dial("tcp", in.String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, _ = io.WriteString(plain, "hello\n")
	if got := greeting(plain); got == "db" || got == "hello" {
		t.Errorf("plain text under STRICT: %q", got)
	}
	meant.Store(web)
	if got := asked(t, kernel.dial(t, out, "10.9.9.9:80"), "web.example.com"); got != "200 web for web.example.com" {
		t.Errorf("HTTP: %q", got)
	}
	if counts := callee.mesh.Status().Inbound; counts.Plaintext != 1 {
		t.Errorf("refused: %+v", counts)
	}
}
