package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/heddlemesh/mesh/internal/conformance"
	"github.com/heddlemesh/mesh/proxy"
)

// A framed is a client of HTTP/2 that sees every frame.
type framed struct {
	*http2.Framer
	t     *testing.T
	block bytes.Buffer
	enc   *hpack.Encoder
	data  map[uint32]string
	ended map[uint32]bool
}

func newFramed(t *testing.T, c net.Conn) *framed {
	t.Helper()
	send(t, c, http2.ClientPreface)
	f := &framed{Framer: http2.NewFramer(c, c), t: t, data: make(map[uint32]string), ended: make(map[uint32]bool)}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.block)
	_ = f.WriteSettings()
	return f
}

// ask begins a request. A connection that has ended shows in what is read.
func (f *framed) ask(id uint32, path string) {
	f.block.Reset()
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "reviews"}, {":path", path}} {
		_ = f.enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block.Bytes(), EndStream: true, EndHeaders: true})
}

// until reads frames until one is what is waited for, nil for the end of the connection.
func (f *framed) until(is func(http2.Frame) bool) http2.Frame {
	f.t.Helper()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			if is != nil {
				f.t.Fatal(err)
			}
			return nil
		}
		id := frame.Header().StreamID
		switch frame := frame.(type) {
		case *http2.DataFrame:
			f.data[id] += string(frame.Data())
			f.ended[id] = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			f.t.Errorf("stream %d is reset: %v", id, frame.ErrCode)
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		}
		if is != nil && is(frame) {
			return frame
		}
	}
}

func (f *framed) goAway() *http2.GoAwayFrame {
	f.t.Helper()
	return f.until(func(frame http2.Frame) bool { _, is := frame.(*http2.GoAwayFrame); return is }).(*http2.GoAwayFrame)
}

// TestGoAwayTwice (RFC 9113 §6.8): a drain tells connections of HTTP/2 at once, by a GOAWAY that leaves no stream out, also where a long
// stream is all that they have; when the client has read it, or has not said so for a second, by one that names the last stream that is
// served. What comes later is not, and the long stream ends whole.
func TestGoAwayTwice(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"inbound", "inbound TLS", "outbound"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			release, seen := make(chan struct{}), make(chan string, 16)
			long := strings.Repeat("0123456789abcdef", 4096)
			up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen <- r.URL.Path
				if r.URL.Path == "/long" {
					_, _ = io.WriteString(w, "begun ")
					_ = http.NewResponseController(w).Flush()
					<-release
					_, _ = io.WriteString(w, long[:32<<10])
				}
				_, _ = io.WriteString(w, "over")
			}))
			authority := conformance.NewAuthority(t)
			r := start(t, service("reviews", "HTTP", up), func(c *proxy.Config) {
				if side == "outbound" {
					return
				}
				c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}}
				if side == "inbound TLS" {
					c.Inbound[0].TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{authority.Issue("reviews.inside")}}
				}
			})
			drain, address := r.sidecar.Drain, r.sidecar.OutboundAddr()
			if side == "outbound" {
				drain = r.sidecar.Shutdown
			} else {
				address = r.sidecar.InboundAddrs()[0]
			}
			c, _ := dial(t, address.String())
			if side == "inbound TLS" {
				secured := tls.Client(c, &tls.Config{RootCAs: authority.Pool(), ServerName: "reviews.inside", NextProtos: []string{"h2"}})
				if err := secured.Handshake(); err != nil || secured.ConnectionState().NegotiatedProtocol != "h2" {
					t.Fatalf("%v, %q is spoken", err, secured.ConnectionState().NegotiatedProtocol)
				}
				c = secured
			}
			f := newFramed(t, c)
			f.ask(1, "/long")
			f.until(func(http2.Frame) bool { return f.data[1] == "begun " })

			done := make(chan error, 1)
			go func() { done <- drain(context.WithoutCancel(t.Context())) }()
			if first := f.goAway(); first.LastStreamID != 1<<31-1 || first.ErrCode != http2.ErrCodeNo {
				t.Fatalf("the first GOAWAY is %v", first)
			}
			ping := f.until(func(frame http2.Frame) bool { _, is := frame.(*http2.PingFrame); return is }).(*http2.PingFrame)
			f.ask(3, "/crossing")
			_ = f.WritePing(true, ping.Data)
			second := f.goAway()
			if last := second.LastStreamID; last != 3 && last != 1 || second.ErrCode != http2.ErrCodeNo { // 1: the second was over
				t.Fatalf("the second GOAWAY is %v", second)
			}
			f.ask(5, "/late")
			close(release)
			f.until(func(http2.Frame) bool { return f.ended[1] && (second.LastStreamID == 1 || f.ended[3]) })
			if got := f.data[1]; got != "begun "+long[:32<<10]+"over" {
				t.Errorf("of the long stream %d bytes came", len(got))
			}
			if second.LastStreamID == 3 && f.data[3] != "over" {
				t.Errorf("the stream on its way is answered %q", f.data[3])
			}
			if err := <-done; err != nil {
				t.Errorf("drain: %v", err)
			}
			f.until(nil)
			close(seen)
			for path := range seen {
				if path == "/late" || path == "/crossing" && second.LastStreamID == 1 {
					t.Errorf("%s was served behind the GOAWAY that leaves it out", path)
				}
			}
		})
	}
}

// TestGoAwayIdle: a connection without a stream is told before it ends, and clients that heed it hold nobody up.
func TestGoAwayIdle(t *testing.T) {
	t.Parallel()
	r := start(t, "", inboundOf(upstream(t, saying("any"))))
	c, _ := dial(t, r.sidecar.InboundAddrs()[0].String())
	f := newFramed(t, c)
	f.ask(1, "/")
	f.until(func(http2.Frame) bool { return f.ended[1] })
	done := make(chan error, 1)
	go func() { done <- r.sidecar.Drain(context.WithoutCancel(t.Context())) }()
	if first := f.goAway(); first.LastStreamID != 1<<31-1 {
		t.Errorf("the first GOAWAY is %v", first)
	}
	f.until(nil) // it does not answer the PING
	if err := <-done; err != nil {
		t.Error(err)
	}
}
