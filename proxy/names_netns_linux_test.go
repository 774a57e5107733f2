package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
	"github.com/heddlemesh/mesh/proxy"
)

// fetching asks the test's binary to be a program that knows nothing of a mesh: it fetches a URL, or reads the first line of
// "tcp host:port", by the system's resolver.
const fetching = "HEDDLE_TEST_FETCH"

func fetch(what string) {
	if address, ok := strings.CutPrefix(what, "tcp "); ok {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			fmt.Print(err)
			return
		}
		fmt.Print(greeting(conn))
		return
	}
	resp, err := http.Get(what) //nolint:noctx // a plain program
	if err != nil {
		fmt.Print(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Print(resp.StatusCode, " ", string(body))
}

// A program runs commands as its user, with a resolv.conf of its own.
type unmodified struct {
	t    *testing.T
	dir  string
	self string // the test's binary, where the user can get at it
}

func newUnmodified(t *testing.T) *unmodified {
	t.Helper()
	dir, err := os.MkdirTemp("", "heddle-names") //nolint:usetesting // t.TempDir is for its owner only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &unmodified{t: t, dir: dir, self: filepath.Join(dir, "program")}
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.self, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// run gives what a command writes. The name server is that of its resolv.conf.
func (p *unmodified) run(server, fetches string, command ...string) string {
	p.t.Helper()
	conf := filepath.Join(p.dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+server+"\noptions timeout:20 attempts:1\n"), 0o644); err != nil {
		p.t.Fatal(err)
	}
	const as = `mount --bind "$0" /etc/resolv.conf && exec setpriv --reuid 1000 --regid 1000 --clear-groups "$@"`
	cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", as, conf}, command...)...)
	cmd.Env = append(os.Environ(), fetching+"="+fetches)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Logf("%v: %v", command, err)
	}
	return strings.TrimSpace(string(out))
}

// nameServerOn is a name server of one machine: it knows one name.
func nameServerOn(t *testing.T, there *netns.Machine, name, address string) {
	t.Helper()
	var conn net.PacketConn
	var err error
	there.Do(func() { conn, err = net.ListenPacket("udp", ":53") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.RecursionAvailable, m.Additionals, m.RCode = true, true, nil, dnsmessage.RCodeNameError
			if q := m.Questions[0]; q.Name.String() == name {
				if m.RCode = dnsmessage.RCodeSuccess; q.Type == dnsmessage.TypeA {
					m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
						Body: &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()}}}
				}
			}
			if answer, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
}

// TestNamespaceNames: an unmodified program says http://reviews:9080 with no Kubernetes and no proxy variable, whichever name server its
// system has, and services of one port without addresses are told apart.
func TestNamespaceNames(t *testing.T) {
	if what := os.Getenv(fetching); what != "" {
		fetch(what)
		os.Exit(0)
	}
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	serveOn(t, "there", there.Listen)
	second, err := there.Listen(":3307")
	if err != nil {
		t.Fatal(err)
	}
	go speakFirst(second, "second")
	t.Cleanup(func() { _ = second.Close() })
	nameServerOn(t, there, "outside.example.", netns.ThereV4)
	netns.Command(t, "ip", "route", "add", "default", "via", netns.ThereV4)
	netns.Command(t, "ip", "-6", "route", "add", "default", "via", netns.ThereV6)
	config := entry("reviews.default.svc.cluster.local", "", "HTTP", 9080, netns.ThereV4+":9080") +
		entry("db1.default.svc.cluster.local", "", "TCP", 3306, netns.ThereV4+":3306") +
		entry("db2.default.svc.cluster.local", "", "TCP", 3306, netns.ThereV4+":3307")
	startMesh(t, config, func(c *proxy.Config) {
		c.Outbound = ""
		c.Capture = proxy.Capture{Outbound: []string{"127.0.0.1:15001", "[::1]:15001"}, Inbound: []string{":15006"}}
		c.DNS = proxy.DNS{Listen: []string{"127.0.0.1:15053", "[::1]:15053"}, Upstreams: []netip.AddrPort{netip.MustParseAddrPort(netns.ThereV4 + ":53")}}
	})
	p := newUnmodified(t)
	self := []string{p.self, "-test.run=^TestNamespaceNames$"}
	root := []capture.Range{{First: 0, Last: 0}}
	for i, backend := range []capture.Backend{capture.NFTables, capture.IPTablesNFT, capture.IPTablesLegacy} {
		if err := capture.Install(t.Context(), capture.Config{Backend: backend, UIDs: root, DNSPort: capture.DNSPort}, capture.Run); err != nil {
			t.Fatal(err)
		}
		server := []string{netns.ThereV4, netns.ThereV6, "127.0.0.53"}[i]
		for what, want := range map[string]string{
			"http://reviews:9080/":         "200 there reviews:9080 from " + netns.HereV4,
			"http://reviews.default:9080/": "200 there reviews.default:9080 from " + netns.HereV4,
			"http://outside.example:9080/": "200 there outside.example:9080 from " + netns.HereV4,
			"tcp db1:3306":                 "there",
			"tcp db2.default.svc:3306":     "second",
		} {
			if got := p.run(server, what, self...); got != want {
				t.Errorf("%s, %s by %s: %q, want %q", backend, what, server, got, want)
			}
		}
		if _, err := exec.LookPath("curl"); err == nil {
			if got := p.run(server, "", "curl", "-sS", "--max-time", "60", "http://reviews:9080/"); got != "there reviews:9080 from "+netns.HereV4 {
				t.Errorf("%s, curl by %s: %q", backend, server, got)
			}
		}
		// The sidecar's own queries are not captured: where it asks a server, it is that.
		conn, err := net.Dial("udp", netns.ThereV4+":53")
		if err != nil {
			t.Fatal(err)
		}
		query := dnsmessage.Message{Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("reviews."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		b, err := query.Pack()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(b)
		answer := make([]byte, 512)
		if _, err := conn.Read(answer); err != nil || answer[3]&0xf != 3 {
			t.Errorf("%s: as the sidecar's user: %x, %v", backend, answer[:4], err)
		}
		_ = conn.Close()
		if err := capture.Uninstall(t.Context(), capture.Run); err != nil {
			t.Fatal(err)
		}
		if got := p.run(netns.ThereV4, "http://reviews:9080/", self...); !strings.Contains(got, "no such host") {
			t.Errorf("%s, uninstalled: %q", backend, got)
		}
	}
	// Nobody else's machine is answered.
	there.Do(func() {
		conn, err := net.Dial("udp", netns.HereV4+":15053")
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1})
		if n, err := conn.Read(make([]byte, 512)); err == nil {
			t.Errorf("another machine is answered with %d bytes", n)
		}
	})
}
