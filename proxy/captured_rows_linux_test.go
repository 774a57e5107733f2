package proxy_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/proxy"
)

// dribble sends the first bytes each by itself, so that what they begin comes in pieces, and then the rest: byte after byte that would
// take a slow machine longer than the sidecar waits.
func dribble(c net.Conn, text string) {
	const apart = 48
	_ = c.(*net.TCPConn).SetNoDelay(true)
	for i := range min(apart, len(text)) {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return
		}
		runtime.Gosched()
	}
	if len(text) > apart {
		_, _ = io.WriteString(c, text[apart:])
	}
}

// A dribbler is a connection whose writes go out so.
type dribbler struct{ net.Conn }

func (d dribbler) Write(b []byte) (int, error) {
	dribble(d.Conn, string(b))
	return len(b), nil
}

// TestCapturedSniffing is row B-105: what comes in odd pieces, or is what nobody expects on the port, reaches the right program by the
// right policies, or nobody; and under STRICT nothing does that is not the mesh's.
func TestCapturedSniffing(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	web, raw := upstream(t, saying("web")), speaking(t, "raw")
	secure := httptest.NewUnstartedServer(saying("secure"))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	own := secure.Listener.Addr().String()
	long := strings.Repeat("x", 16<<10)
	for _, mode := range []string{"", strict} {
		_, kernel, _, in := capturing(t, mode, nil, as(t, a, "app"))
		either := func(open string) string {
			if mode != "" {
				return "refused"
			}
			return open
		}
		heard := func(to, text string) string {
			c := kernel.dial(t, in, to)
			dribble(c, text)
			_ = c.CloseWrite()
			all, err := io.ReadAll(c)
			if len(all) == 0 || err != nil {
				return "refused"
			}
			return string(all)
		}
		for _, c := range []struct{ name, to, text, want string }{
			{"one byte", raw, "x", "raw\nx"},
			{"16 KiB without a line feed", raw, long, "raw\n" + long},
			{"mail", raw, "EHLO a\r\n", "raw\nEHLO a\r\n"},
			{"a preface that is none", raw, "PRI * HTTP/2.1\r\n\r\n", "raw\nPRI * HTTP/2.1\r\n\r\n"},
		} {
			if got := heard(c.to, c.text); got != either(c.want) && !(strings.HasPrefix(c.text, "PRI") && !strings.HasPrefix(got, "raw")) {
				t.Errorf("%q %s: %.60q, want %.60q", mode, c.name, got, either(c.want))
			}
		}
		if got := heard(web, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); strings.Contains(got, "web for a") != (mode == "") {
			t.Errorf("%q HTTP byte by byte: %q", mode, got)
		}
		// TLS that is not the mesh's goes to the program as it is, whose own it may be: also byte by byte, and where the program has none.
		client := tls.Client(dribbler{kernel.dial(t, in, own)}, &tls.Config{ServerName: "own", InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
		got := asked(t, client, "any")
		if mode == "" && got != "200 secure for any" || mode != "" && strings.Contains(got, "secure") {
			t.Errorf("%q the program's own TLS: %q", mode, got)
		}
		client = tls.Client(kernel.dial(t, in, raw), &tls.Config{ServerName: "raw", InsecureSkipVerify: true})
		if got := greeting(client); got == "raw" {
			t.Errorf("%q TLS to a program that has none: %q", mode, got)
		}
		if got := asked(t, kernel.dial(t, in, own), "any"); strings.HasPrefix(got, "200") {
			t.Errorf("%q HTTP to a program that speaks TLS: %q", mode, got)
		}
	}
}

// TestCapturedHello is row B-105 for what the program sends: a ClientHello byte by byte, one that is too long to be read, none.
func TestCapturedHello(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(saying("secure"))
	t.Cleanup(secure.Close)
	config := entry("secure.example.com", "", "TLS", 443, secure.Listener.Addr().String())
	r, kernel, out, _ := capturing(t, config, nil, mesh.WithOutboundTrafficPolicy(mesh.RegistryOnly))
	if got := answeredBy(t, dribbler{kernel.dial(t, out, "10.9.9.9:443")}, "secure.example.com"); got != "200 secure for any" {
		t.Errorf("byte by byte: %q", got)
	}
	// More than 16 KiB, without a name in what is read: it goes where it meant to go, which here is nowhere.
	many := make([]string, 800)
	for i := range many {
		many[i] = strings.Repeat("p", 40)
	}
	c := tls.Client(kernel.dial(t, out, "10.9.9.9:443"), &tls.Config{InsecureSkipVerify: true, NextProtos: many})
	if err := c.Handshake(); err == nil {
		t.Error("a ClientHello that is too long went somewhere")
	}
	if l := <-r.told; l.Reason != "unknown_host" {
		t.Errorf("too long: %+v", l)
	}
	plain := kernel.dial(t, out, "10.9.9.9:443")
	_, _ = io.WriteString(plain, "GET / HTTP/1.1\r\nHost: secure.example.com\r\n\r\n")
	if got := response(plain); got != "reset" {
		t.Errorf("HTTP on a port of TLS: %q", got)
	}
}

// TestCapturedBytes is row B-106: 100 MB that come after the client has said that it is done all arrive, segments of no length do
// nothing, and a reset of either side is a reset of the other.
func TestCapturedBytes(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	result := make(chan error, 8)
	go func() { // what a client sends first says what is to be done
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var what [1]byte
				if _, err := io.ReadFull(c, what[:]); err != nil {
					return
				}
				switch what[0] {
				case 'm': // much, after the end
					if _, err := io.Copy(io.Discard, c); err != nil {
						return
					}
					piece := make([]byte, 1<<20)
					for range size >> 20 {
						if _, err := c.Write(piece); err != nil {
							return
						}
					}
				case 'r': // a reset
					_ = c.(*net.TCPConn).SetLinger(0)
				case 'w': // to hear of one
					_, _ = c.Write(what[:])
					_, err := io.Copy(io.Discard, c)
					result <- err
				}
			}()
		}
	}()
	_, kernel, out, in := capturing(t, "", nil)
	for name, listener := range map[string]net.Addr{"out": out, "in": in} {
		c := kernel.dial(t, listener, l.Addr().String())
		_, _ = c.Write(nil)
		if _, err := io.WriteString(c, "m\x00"); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if n, err := io.Copy(io.Discard, c); n != size || err != nil {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		c = kernel.dial(t, listener, l.Addr().String())
		_, _ = io.WriteString(c, "r\x00")
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the program's reset is %v", name, err)
		}
		c = kernel.dial(t, listener, l.Addr().String())
		_, _ = io.WriteString(c, "w\x00")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.SetLinger(0)
		_ = c.Close()
		if err := <-result; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the client's reset is %v", name, err)
		}
	}
}

// TestCapturedCrowd is row B-050 for what is not known yet: connections that say nothing, or one byte of a handshake, keep nobody
// out. Where there are too many of them the oldest is closed.
func TestCapturedCrowd(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	web := upstream(t, saying("web"))
	r, kernel, _, in := capturing(t, "", nil, as(t, a, "app"))
	const most = 1024
	crowd := make([]*net.TCPConn, most)
	for i := range crowd {
		crowd[i] = kernel.dial(t, in, web)
		if i%2 == 1 {
			_, _ = crowd[i].Write([]byte{0x16})
		}
	}
	for r.sidecar.Unheard() < most { // they are there
		runtime.Gosched()
	}
	if got := asked(t, kernel.dial(t, in, web), "any"); got != "200 web for any" {
		t.Errorf("behind the crowd: %q", got)
	}
	if l := <-r.told; l.Reason != proxy.Crowded {
		t.Errorf("told %+v", l)
	}
	closed := make(chan struct{}, most)
	for _, c := range crowd {
		go func() {
			_, _ = io.Copy(io.Discard, c)
			closed <- struct{}{}
		}()
	}
	<-closed // one has made way
}

// TestCapturedSlow is row B-050: who begins a handshake, or something else, and goes no further is closed under STRICT; a program that
// takes plain text gets what there is.
func TestCapturedSlow(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	raw := speaking(t, "raw")
	for _, mode := range []string{"", strict} {
		_, kernel, _, in := capturing(t, mode, func(c *proxy.Config) { c.Capture.ServerFirst = time.Millisecond }, as(t, a, "app"))
		var wg sync.WaitGroup
		for _, text := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01", "G", "GET"} {
			if mode == "" && text == "" {
				continue // see TestCapturedSilent
			}
			c := kernel.dial(t, in, raw)
			wg.Go(func() {
				_, _ = io.WriteString(c, text)
				want := "raw\n" + text
				if mode != "" {
					want = ""
				}
				got := make([]byte, len("raw\n")+len(text))
				n, _ := io.ReadFull(c, got)
				if string(got[:n]) != want && !(mode != "" && n > 0 && got[0] == 21) { // an alert
					t.Errorf("%q %q: %q", mode, text, got[:n])
				}
			})
		}
		wg.Wait()
	}
}

// TestCapturedLoopbackOnly is row B-104: what the program has on loopback only is not reached by the address of the machine, and row
// B-102: whatever host a request names, it is the program that gets it.
func TestCapturedLoopbackOnly(t *testing.T) {
	t.Parallel()
	web := upstream(t, saying("web"))
	_, port, _ := net.SplitHostPort(web)
	_, kernel, _, in := capturing(t, "", nil)
	c := kernel.dial(t, in, "127.0.0.2:"+port) // where nobody listens
	if got := asked(t, c, "any"); strings.Contains(got, "web") {
		t.Errorf("loopback: %q", got)
	}
	for _, host := range []string{"example.com", "169.254.169.254", "127.0.0.1:15000", loopback.Dead(t)} {
		if got := asked(t, kernel.dial(t, in, web), host); got != "200 web for "+strings.TrimSuffix(host, ":80") {
			t.Errorf("%s: %q", host, got)
		}
	}
}

// TestCapturedElsewhere is row B-101: no spelling of an address of a metadata service, or of the link, is dialled; and under
// REGISTRY_ONLY nothing that the mesh does not know is (row B-102).
func TestCapturedElsewhere(t *testing.T) {
	t.Parallel()
	for _, policy := range []mesh.OutboundTrafficPolicy{mesh.AllowAny, mesh.RegistryOnly} {
		r, kernel, out, _ := capturing(t, entry("web.example.com", "", "HTTP", 80, upstream(t, saying("web"))), nil, mesh.WithOutboundTrafficPolicy(policy))
		for _, to := range []string{"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fd00:ec2::254]:80", "[fe80::1%lo]:80", "169.254.169.254:22", "[fe80::1%lo]:22"} {
			c := kernel.dial(t, out, to)
			if strings.HasSuffix(to, ":22") {
				if got := greeting(c); got != "reset" {
					t.Errorf("%s %s: %q", policy, to, got)
				}
			} else if got := asked(t, c, "169.254.169.254"); !strings.HasPrefix(got, "403 ") && !strings.HasPrefix(got, "502 ") {
				t.Errorf("%s %s: %q", policy, to, got)
			}
			if l := <-r.told; l.Reason != "destination_refused" && l.Reason != "unknown_host" {
				t.Errorf("%s %s: %+v", policy, to, l)
			}
		}
	}
}

// TestCapturedMost: no more connections than inboundConnectionPool allows reach a port of the program, and one that ends makes room.
func TestCapturedMost(t *testing.T) {
	t.Parallel()
	first, second := speaking(t, "first"), speaking(t, "second")
	r, kernel, _, in := capturing(t, `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: most}
spec: {inboundConnectionPool: {tcp: {maxConnections: 2}}}
`, func(c *proxy.Config) {
		c.Capture.Opaque = []uint16{netip.MustParseAddrPort(first).Port(), netip.MustParseAddrPort(second).Port()}
	})
	var open []*net.TCPConn
	for i, c := range []struct{ to, want string }{{first, "first"}, {first, "first"}, {first, "reset"}, {second, "second"}} {
		conn := kernel.dial(t, in, c.to)
		if got := greeting(conn); got != c.want {
			t.Errorf("%d: %q, want %s", i, got, c.want)
		}
		open = append(open, conn)
	}
	if l := <-r.told; l.Flag != "UO" {
		t.Errorf("told %+v", l)
	}
	_ = open[0].Close()
	awaitMetrics(t, r.mesh, map[string]float64{"connections_closed -": 1}, "response_flags")
	if got := greeting(kernel.dial(t, in, first)); got != "first" {
		t.Errorf("behind one that has ended: %q", got)
	}
}
