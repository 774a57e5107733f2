package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport"
)

// exchangers are both ends of a connection by TLS in memory.
func exchangers(t *testing.T, c tls.Certificate) (ours, theirs *tls.Conn) {
	t.Helper()
	a, b := net.Pipe()
	ours = tls.Server(a, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c}, SessionTicketsDisabled: true})
	theirs = tls.Client(b, &tls.Config{InsecureSkipVerify: true})
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return ours, theirs
}

// TestExchange: whatever the other side says in front, or does not, and however it comes, the bytes behind it are those of the connection, both
// ways; nobody waits for longer than the time for it, and what comes later is taken off too.
func TestExchange(t *testing.T) {
	t.Parallel()
	pages := httptest.NewUnstartedServer(nil)
	pages.StartTLS()
	t.Cleanup(pages.Close)
	metadata, id := telemetry.TellPeer(telemetry.Workload{Name: "shop-v1", Namespace: "a", App: "shop"})
	whole := telemetry.AppendPeerExchange(nil, metadata, id)
	garbage := bytes.Clone(whole)
	for i := range garbage[telemetry.PeerExchangeHead:] {
		garbage[telemetry.PeerExchangeHead+i] = 0xff
	}
	huge := binary.BigEndian.AppendUint32(bytes.Clone(whole[:4]), telemetry.MaxPeerExchange+1)
	for _, c := range []struct {
		name        string
		front, rest string // of what is sent, and what of the front is no such thing
		late, said  bool
	}{
		{name: "a workload", front: string(whole), said: true},
		{name: "nothing of itself", front: string(telemetry.AppendPeerExchange(nil, "", ""))},
		{name: "no such message", front: string(garbage)},
		{name: "too long", front: string(huge), rest: string(huge)},
		{name: "another number", front: "GET / HTTP/1.1\r\n", rest: "GET / HTTP/1.1\r\n"},
		{name: "less than a head", front: "abc", rest: "abc"},
		{name: "late", front: string(whole), late: true},
		{name: "late, nothing of itself", front: string(telemetry.AppendPeerExchange(nil, "", "")), late: true},
	} {
		for _, size := range []int{1, 1 << 20} {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ours, theirs := exchangers(t, pages.TLS.Certificates[0])
					const text = "and what the program says"
					hears, begins := make(chan string, 1), make(chan struct{})
					go func() {
						all, _ := io.ReadAll(theirs)
						hears <- string(all)
					}()
					go func() {
						if c.late {
							<-begins
						}
						said := c.front
						if len(said) >= telemetry.PeerExchangeHead {
							said += text
						}
						for len(said) > 0 {
							n := min(size, len(said))
							if _, err := io.WriteString(theirs, said[:n]); err != nil {
								t.Error(err)
							}
							said = said[n:]
						}
						_ = theirs.CloseWrite()
					}()
					said, nc := tellEachOther(ours, &transport.Says{Metadata: metadata, ID: id}).await(t.Context())
					close(begins)
					if (said == metadata) != c.said || said != "" && !c.said {
						t.Errorf("it is heard to say %q", said)
					}
					if _, bare := nc.(*tls.Conn); bare != (!c.late && c.rest == "") {
						t.Errorf("the connection goes on as a %T", nc)
					}
					_, _ = io.WriteString(nc, "hello")
					_ = nc.(interface{ CloseWrite() error }).CloseWrite()
					want := c.rest + text
					if len(c.front) < telemetry.PeerExchangeHead {
						want = c.rest
					}
					if got, err := io.ReadAll(nc); string(got) != want || err != nil {
						t.Errorf("%q, %v", got, err)
					}
					if got := <-hears; got != string(whole)+"hello" {
						t.Errorf("the other side hears %q", got)
					}
					_ = nc.Close()
				})
			})
		}
	}
}

// TestExchangeEnds: a connection that ends, or is given up, while it is under way leaves nothing behind, and says so.
func TestExchangeEnds(t *testing.T) {
	t.Parallel()
	pages := httptest.NewUnstartedServer(nil)
	pages.StartTLS()
	t.Cleanup(pages.Close)
	for _, how := range []string{"gone", "given up", "does not read"} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := exchangers(t, pages.TLS.Certificates[0])
			go func() {
				_ = theirs.Handshake()
				if how == "gone" {
					_ = theirs.NetConn().Close()
				}
			}()
			if err := ours.Handshake(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			x := tellEachOther(ours, nil)
			if how == "given up" {
				cancel()
			}
			said, nc := x.await(ctx)
			if said != "" || nc != net.Conn(x) {
				t.Errorf("%s: %q, %T", how, said, nc)
			}
			_ = nc.Close() // waits for what is under way, or the bubble does not end
			if n, err := nc.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Errorf("%s: %d bytes can be read, %v", how, n, err)
			}
			if _, err := nc.Write([]byte("x")); err == nil {
				t.Errorf("%s: it can be written to", how)
			}
		})
	}
}

// FuzzExchange: whatever comes, what is no exchange is handed on to the byte, and what is one is taken off.
func FuzzExchange(f *testing.F) {
	metadata, id := telemetry.TellPeer(telemetry.Workload{Name: "shop-v1", Namespace: "a", App: "shop"})
	whole := telemetry.AppendPeerExchange(nil, metadata, id)
	f.Add(append(bytes.Clone(whole), "rest"...), 3)
	f.Add(whole[:20], 1)
	f.Add([]byte("\x3d\x23\x04\x67\xff\xff\xff\xff"), 4)
	f.Add([]byte("SSH-2.0-OpenSSH\r\n"), 100)
	f.Add([]byte(strings.Repeat("=#\x04g", 9)), 2)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		from := &pieces{b: bytes.NewReader(b), size: max(1, size%64)}
		said, rest, err := hearPeer(from)
		left, _ := io.ReadAll(from)
		head := min(len(b), telemetry.PeerExchangeHead)
		n, ok := 0, false
		if head == telemetry.PeerExchangeHead {
			n, ok = telemetry.PeerExchangeSize(b[:head])
		}
		switch {
		case !ok && (err != nil || said != "" || string(rest)+string(left) != string(b)):
			t.Errorf("%q: %q, %q and %q, %v", b, said, rest, left, err)
		case ok && len(b) < head+n && err == nil:
			t.Errorf("%q: cut off, and no error", b)
		case ok && len(b) >= head+n && (err != nil || len(rest) > 0 || !bytes.Equal(left, b[head+n:])):
			t.Errorf("%q: %q and %q, %v", b, rest, left, err)
		}
		if len(said) > 2*telemetry.MaxPeerExchange {
			t.Errorf("%d bytes are kept", len(said))
		}
	})
}

// pieces reads a few bytes at a time.
type pieces struct {
	b    *bytes.Reader
	size int
}

func (p *pieces) Read(b []byte) (int, error) { return p.b.Read(b[:min(len(b), p.size)]) }
