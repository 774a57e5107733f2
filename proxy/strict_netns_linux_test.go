package proxy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
	"github.com/heddlemesh/mesh/proxy"
)

// A tap hears everything that goes over the link between the machines.
type tap struct {
	t    *testing.T
	fd   int
	ends int
}

func newTap(t *testing.T) *tap {
	t.Helper()
	all := int(binary.NativeEndian.Uint16([]byte{0, syscall.ETH_P_ALL})) // in network byte order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	link, err := net.InterfaceByName(netns.HereLink)
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 64<<20)
	}
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: uint16(all), Ifindex: link.Index})
	}
	if err != nil {
		t.Fatal(err)
	}
	return &tap{t: t, fd: fd}
}

// heard gives all that has gone over the link since the last time: it ends with a packet that is sent for it.
func (p *tap) heard() []byte {
	p.t.Helper()
	p.ends++
	end := fmt.Sprintf("the end of part %d", p.ends)
	conn, err := net.Dial("udp", netns.ThereV4+":9")
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(end)); err != nil {
		p.t.Fatal(err)
	}
	var all []byte
	b := make([]byte, 1<<17)
	for {
		n, _, err := syscall.Recvfrom(p.fd, b, 0)
		if err != nil {
			p.t.Fatal(err)
		}
		all = append(all, b[:n]...)
		if bytes.Contains(b[:n], []byte(end)) {
			return all
		}
	}
}

// asProgram connects from the machine as a user that its rules capture.
func asProgram(there *netns.Machine, address string) (conn net.Conn, err error) {
	there.Do(func() {
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, userOfProgram, 0, 0)
		conn, err = net.Dial("tcp", address)
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0)
	})
	return conn, err
}

// TestNamespaceStrict is the proof of STRICT on the wire: between two machines of which each has a sidecar and programs that know
// nothing of it, nothing of what they say is to be read, in either family, of HTTP and of TCP.
func TestNamespaceStrict(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	const secret = "nobody-may-read-this"
	serveOn(t, secret, here) // says it in every answer, and first
	netns.Command(t, "ip", "route", "add", "default", "via", netns.ThereV4)
	there.Do(func() {
		netns.Command(t, "ip", "route", "add", "default", "via", netns.HereV4)
		netns.Command(t, "ip", "-6", "route", "add", "default", "via", netns.HereV6)
	})
	wire := newTap(t)
	// Without sidecars it is there to be read, or the tap hears nothing.
	plain, err := there.Dial(netns.HereV4 + ":9080")
	if got := asked(t, connected(t, plain, err), secret); !strings.HasPrefix(got, "200 "+secret) {
		t.Fatal(got)
	}
	if !bytes.Contains(wire.heard(), []byte(secret)) {
		t.Fatal("the tap does not hear plain text")
	}

	a := newAuthority(t, ca.Options{})
	callee := startMesh(t, strict, func(c *proxy.Config) {
		c.Outbound = ""
		c.Capture = proxy.Capture{Inbound: []string{":15006"}, Opaque: []uint16{3306}}
	}, as(t, a, "here"))
	install(t, capture.NFTables)
	known := func(host, address, protocol string, port int, endpoint string) string {
		return strings.Replace(entry(host, address, protocol, port, endpoint), "endpoints: [{", "endpoints: [{serviceAccount: here, ", 1)
	}
	guard := proxy.NewGuard(func(_ context.Context, _, address string) (net.Conn, error) { return there.Dial(address) })
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(known("web4.example.com", "10.1.1.4", "HTTP", 9080, netns.HereV4+":9080")+
		known("web6.example.com", "10.1.1.6", "HTTP", 9080, "["+netns.HereV6+"]:9080")+known("db4.example.com", "10.1.1.4", "TCP", 3306, netns.HereV4+":3306")+
		known("db6.example.com", "2001:db8::6", "TCP", 3306, "["+netns.HereV6+"]:3306"))), mesh.WithDialer(guard.DialContext),
		as(t, a, "there"), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	caller, err := proxy.Start(proxy.Config{Mesh: m, Guard: guard, Listen: func(_, address string) (net.Listener, error) { return there.Listen(address) },
		Capture: proxy.Capture{Outbound: []string{"127.0.0.1:15001", "[::1]:15001"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = caller.Shutdown(ctx)
	})
	rules, err := capture.Print(capture.Config{UIDs: []capture.Range{{}}})
	if err != nil {
		t.Fatal(err)
	}
	there.Do(func() {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	wire.heard()
	dial := func(address string) net.Conn {
		conn, err := asProgram(there, address)
		return connected(t, conn, err)
	}
	for _, c := range []struct{ name, got, want string }{
		{"HTTP", asked(t, dial("10.1.1.4:9080"), "web4.example.com"), "200 " + secret + " web4.example.com from 127.0.0.6"},
		{"HTTP over IPv6", asked(t, dial("10.1.1.6:9080"), "web6.example.com"), "200 " + secret + " web6.example.com from ::6"},
		{"TCP", greeting(dial("10.1.1.4:3306")), secret},
		{"TCP over IPv6", greeting(dial("[2001:db8::6]:3306")), secret},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
	said := wire.heard()
	for _, words := range []string{secret, "example.com from", "GET /", "HTTP/1.1", "Host:"} {
		if at := bytes.Index(said, []byte(words)); at >= 0 {
			t.Errorf("%q is on the wire: %q", words, said[max(at-64, 0):min(at+64, len(said))])
		}
	}
	if handshakes := bytes.Count(said, []byte{0x16, 3, 1}); handshakes < 4 {
		t.Errorf("%d handshakes of TLS on the wire, in %d bytes", handshakes, len(said))
	}
	// Who has no sidecar, and says it in plain text, hears nothing.
	for _, address := range []string{netns.HereV4 + ":9080", "[" + netns.HereV6 + "]:9080", netns.HereV4 + ":3306"} {
		conn, err := there.Dial(address)
		if got := asked(t, connected(t, conn, err), "x"); strings.Contains(got, secret) {
			t.Errorf("plain text to %s: %q", address, got)
		}
	}
	if bytes.Contains(wire.heard(), []byte(secret)) {
		t.Error("plain text is answered on the wire")
	}
	if counts := callee.mesh.Status().Inbound; counts.Plaintext != 3 {
		t.Errorf("refused: %+v", counts)
	}
}
