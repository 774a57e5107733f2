package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/heddlemesh/mesh/proxy"
)

// A streamed is a client of HTTP/2 with tunnels, which keeps to the windows that it is given and gives its own as it is told.
type streamed struct {
	t    *testing.T
	conn net.Conn

	mu      sync.Mutex // guards what follows, and writing
	changed sync.Cond
	f       *http2.Framer
	block   bytes.Buffer
	enc     *hpack.Encoder
	windows map[uint32]int64 // 0 for the connection's
	initial int64
	streams map[uint32]*tunnelled
	goaways []uint32
	over    bool
}

// A tunnelled is what has come of one stream.
type tunnelled struct {
	head   *http2.MetaHeadersFrame
	data   bytes.Buffer
	ended  bool
	reset  http2.ErrCode
	frames int  // behind END_STREAM
	still  bool // gives no window
}

func dialStreams(t *testing.T, address string) *streamed {
	t.Helper()
	c, _ := dial(t, address)
	s := &streamed{t: t, conn: c, f: http2.NewFramer(c, c), windows: map[uint32]int64{0: 65535}, initial: 65535, streams: make(map[uint32]*tunnelled)}
	s.changed.L = &s.mu
	s.f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	s.enc = hpack.NewEncoder(&s.block)
	send(t, c, http2.ClientPreface)
	_ = s.f.WriteSettings()
	var reading sync.WaitGroup
	reading.Go(s.read)
	t.Cleanup(func() {
		_ = c.Close()
		reading.Wait()
	})
	return s
}

func (s *streamed) read() {
	for {
		frame, err := s.f.ReadFrame()
		s.mu.Lock()
		if s.over = err != nil; s.over {
			s.changed.Broadcast()
			s.mu.Unlock()
			return
		}
		s.heard(frame)
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

func (s *streamed) heard(frame http2.Frame) {
	id := frame.Header().StreamID
	of := s.streams[id]
	if of != nil && of.ended && frame.Header().Type != http2.FrameWindowUpdate {
		of.frames++
	}
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if v, ok := frame.Value(http2.SettingInitialWindowSize); ok {
			s.initial = int64(v)
		}
		if !frame.IsAck() {
			_ = s.f.WriteSettingsAck()
		}
	case *http2.WindowUpdateFrame:
		s.windows[id] += int64(frame.Increment)
	case *http2.PingFrame:
		if !frame.IsAck() {
			_ = s.f.WritePing(true, frame.Data)
		}
	case *http2.GoAwayFrame:
		s.goaways = append(s.goaways, frame.LastStreamID)
	case *http2.MetaHeadersFrame:
		of.head, of.ended = frame, frame.StreamEnded()
	case *http2.RSTStreamFrame:
		of.reset = frame.ErrCode
	case *http2.DataFrame:
		of.data.Write(frame.Data())
		of.ended = frame.StreamEnded()
		if n := frame.Header().Length; n > 0 {
			_ = s.f.WriteWindowUpdate(0, n)
			if !of.still {
				_ = s.f.WriteWindowUpdate(id, n)
			}
		}
	}
}

// ask sends a head; without pairs it is that of a tunnel.
func (s *streamed) ask(id uint32, to string, more ...string) *tunnelled {
	s.mu.Lock()
	defer s.mu.Unlock()
	fields := append([]string{":method", "CONNECT", ":authority", to}, more...)
	s.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = s.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	of := &tunnelled{reset: 0xff}
	s.streams[id] = of
	_ = s.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.block.Bytes(), EndHeaders: true})
	return of
}

// until waits until something is so, or the connection has ended. It reports which.
func (s *streamed) until(so func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !so() {
		if s.over {
			return false
		}
		s.changed.Wait()
	}
	return true
}

// send sends as far as windows let it.
func (s *streamed) send(id uint32, data string, end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for first := true; first || len(data) > 0; first = false {
		room := func() int64 { return min(s.windows[0], s.initial+s.windows[id], 16<<10) }
		for room() <= 0 && len(data) > 0 && !s.over {
			s.changed.Wait()
		}
		if s.over {
			return
		}
		n := min(int(max(room(), 0)), len(data))
		s.windows[0] -= int64(n)
		s.windows[id] -= int64(n)
		s.changed.Broadcast()
		_ = s.f.WriteData(id, end && n == len(data), []byte(data[:n]))
		data = data[n:]
	}
}

func (s *streamed) status(of *tunnelled) string {
	s.until(func() bool { return of.head != nil || of.reset != 0xff })
	if of.head == nil {
		return of.reset.String()
	}
	return of.head.PseudoValue("status")
}

// whole waits until a stream has ended, and gives what came.
func (s *streamed) whole(of *tunnelled) string {
	s.t.Helper()
	if !s.until(func() bool { return of.ended || of.reset != 0xff }) || of.reset != 0xff {
		s.t.Errorf("a tunnel ends by %v, with %d bytes", of.reset, of.data.Len())
	}
	return of.data.String()
}

func allowConnect(c *proxy.Config) { c.AllowConnect = true }

// TestConnectHTTP2 (RFC 9113 §8.5): a tunnel on a stream goes where one over HTTP/1 goes, each direction ends by itself, whichever is first, and
// the connection serves others beside it.
func TestConnectHTTP2(t *testing.T) {
	t.Parallel()
	patient := raw(t, func(c net.Conn, br *bufio.Reader) { // answers when all has been said
		all, _ := io.ReadAll(br)
		_, _ = fmt.Fprintf(c, "%d bytes", len(all))
	})
	heard := make(chan string, 1)
	hasty := raw(t, func(c net.Conn, br *bufio.Reader) { // ends before it listens
		_, _ = io.WriteString(c, "all that I say")
		_ = c.(*net.TCPConn).CloseWrite()
		all, err := io.ReadAll(br)
		heard <- fmt.Sprintf("%d, %v", len(all), err)
	})
	config := entry("a.example.com", "", "TCP", 3306, speaking(t, "a")) + entry("b.example.com", "", "TCP", 3306, speaking(t, "b")) +
		entry("c.example.com", "", "TCP", 3306, patient) + entry("d.example.com", "", "TCP", 3306, hasty) + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [a.example.com], tcp: [{match: [{port: 3306}], route: [{destination: {host: b.example.com}}]}]}
`
	r := startMesh(t, config, allowConnect)
	s := dialStreams(t, r.sidecar.OutboundAddr().String())
	a := s.ask(1, "a.example.com:3306")
	s.send(1, "early\n", false)
	if got := s.status(a); got != "200" {
		t.Fatalf("status %s", got)
	}
	for _, f := range a.head.RegularFields() {
		if f.Name != "date" {
			t.Errorf("the head of a tunnel has %v", f)
		}
	}
	s.until(func() bool { return a.data.String() == "b\nearly\n" })
	awaitMetrics(t, r.mesh, map[string]float64{"connections_opened": 1})
	long := strings.Repeat("x", 1<<20)
	c, d := s.ask(3, "c.example.com:3306"), s.ask(5, "d.example.com:3306")
	s.send(3, long, true)
	if got := s.whole(c); got != "1048576 bytes" {
		t.Errorf("after a half-close %q", got)
	}
	if got := s.whole(d); got != "all that I say" {
		t.Errorf("%q", got)
	}
	s.send(5, long, true)
	if got := <-heard; got != "1048576, <nil>" {
		t.Errorf("behind its own end the endpoint hears %s", got)
	}
	s.send(1, "", true)
	s.whole(a)
	awaitMetrics(t, r.mesh, map[string]float64{"connections_closed": 3})
	e := s.ask(7, "c.example.com:3306") // by now whatever was to be said of the others has been
	s.send(7, "y", true)
	if got := s.whole(e); got != "1 bytes" {
		t.Errorf("the last tunnel gives %q", got)
	}
	for i, of := range []*tunnelled{a, c, d} {
		if s.until(func() bool { return true }); of.frames > 0 || of.reset != 0xff {
			t.Errorf("tunnel %d: %d frames behind its end, %v", i, of.frames, of.reset)
		}
	}
}

// TestConnectHTTP2Refused: who may not, or asks wrongly, is answered as over HTTP/1, and the connection goes on.
func TestConnectHTTP2Refused(t *testing.T) {
	t.Parallel()
	local := speaking(t, "a")
	r := startMesh(t, entry("a.example.com", "", "TCP", 3306, local), allowConnect)
	s := dialStreams(t, r.sidecar.OutboundAddr().String())
	id := uint32(1)
	for _, a := range []struct {
		to     string
		more   []string
		status string
	}{
		{"a.example.com:3306", nil, "200"},
		{local, nil, "403"},
		{r.sidecar.OutboundAddr().String(), nil, "403"},
		{"169.254.169.254:80", nil, "403"},
		{"a.example.com:0", nil, "400"},
		{"a.example.com", nil, "400"},
		{"a.example.com:3306", []string{"content-length", "1"}, "400"},
		{"a.example.com:3306", strings.Split(strings.Repeat("a,b,", 101)+"a,b", ","), "431"},
		{"a.example.com:3306", []string{":scheme", "http", ":path", "/"}, "PROTOCOL_ERROR"},
		{"a.example.com:3306", []string{":protocol", "websocket", ":scheme", "http", ":path", "/"}, "PROTOCOL_ERROR"},
		{"a.example.com:3306", nil, "200"},
	} {
		if got := s.status(s.ask(id, a.to, a.more...)); got != a.status {
			t.Errorf("%s %.50q: %s, want %s", a.to, a.more, got, a.status)
		}
		id += 2
	}
	off := startMesh(t, entry("a.example.com", "", "TCP", 3306, local), nil)
	s = dialStreams(t, off.sidecar.OutboundAddr().String())
	if got := s.status(s.ask(1, "a.example.com:3306")); got != "405" {
		t.Errorf("not allowed: %s", got)
	}
}

// TestConnectHTTP2Fails (RFC 9113 §8.5): a connection that is reset is CONNECT_ERROR, and a stream that is reset, or whose connection goes, is a
// connection that is reset, also where nothing moves and one direction has ended.
func TestConnectHTTP2Fails(t *testing.T) {
	t.Parallel()
	ends := make(chan error, 8)
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		_, _ = io.WriteString(c, "hello")
		line, err := br.ReadString('\n')
		if line == "fail\n" {
			_ = c.(*net.TCPConn).SetLinger(0)
			return
		}
		for n := 1; err == nil || errors.Is(err, io.EOF) && n > 0; { // behind the end of what comes only writing shows what has happened
			n, err = c.Write([]byte("."))
			if err != nil {
				break
			}
		}
		ends <- err
	})
	r := startMesh(t, entry("a.example.com", "", "TCP", 3306, up), allowConnect)
	for _, how := range []string{"endpoint", "stream", "stream, ended", "connection"} {
		s := dialStreams(t, r.sidecar.OutboundAddr().String())
		of := s.ask(1, "a.example.com:3306")
		other := s.ask(3, "a.example.com:3306")
		s.until(func() bool { return of.data.Len() >= 5 && other.data.Len() >= 5 })
		switch how {
		case "endpoint":
			s.send(1, "fail\n", false)
			if s.until(func() bool { return of.reset != 0xff }); of.reset != http2.ErrCodeConnect || of.ended {
				t.Errorf("a reset is told by %v, ended: %v", of.reset, of.ended)
			}
			s.send(3, "fail\n", false)
			s.until(func() bool { return other.reset != 0xff })
			continue
		case "stream, ended":
			s.send(1, "", true)
			fallthrough
		case "stream":
			s.mu.Lock()
			_ = s.f.WriteRSTStream(1, http2.ErrCodeCancel)
			s.mu.Unlock()
			if err := <-ends; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%s: the endpoint hears %v", how, err)
			}
			s.send(3, "fail\n", false)
			if s.until(func() bool { return other.reset != 0xff }); other.reset != http2.ErrCodeConnect {
				t.Errorf("%s: the other stream ends by %v", how, other.reset)
			}
		case "connection":
			_ = s.conn.(*net.TCPConn).SetLinger(0)
			_ = s.conn.Close()
			for range 2 {
				if err := <-ends; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("%s: the endpoint hears %v", how, err)
				}
			}
		}
	}
	awaitMetrics(t, r.mesh, map[string]float64{"connections_opened": 8, "connections_closed": 8})
}

// TestConnectHTTP2Windows: who does not read is sent what his window takes, to the byte, while other streams go on; then all of it, and its end
// behind that. Who is not read from may send what his window takes.
func TestConnectHTTP2Windows(t *testing.T) {
	t.Parallel()
	const much = 4 << 20
	stalled, read := make(chan struct{}), make(chan int64, 1)
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		line, _ := br.ReadString('\n')
		if line == "take\n" {
			<-stalled
			n, _ := io.Copy(io.Discard, br)
			read <- n
			return
		}
		_, _ = io.WriteString(c, strings.Repeat("0123456789abcdef", much/16))
	})
	r := startMesh(t, entry("a.example.com", "", "TCP", 3306, up)+entry("b.example.com", "", "TCP", 3306, speaking(t, "b")), allowConnect)
	s := dialStreams(t, r.sidecar.OutboundAddr().String())
	of := s.ask(1, "a.example.com:3306")
	s.mu.Lock()
	of.still = true
	s.mu.Unlock()
	s.send(1, "give\n", false)
	s.until(func() bool { return of.data.Len() == 65535 })
	for _, more := range []uint32{1, 3, 16384, 5} {
		s.mu.Lock()
		want := of.data.Len() + int(more)
		_ = s.f.WriteWindowUpdate(1, more)
		s.mu.Unlock()
		s.until(func() bool { return of.data.Len() == want })
	}
	b := s.ask(3, "b.example.com:3306")
	s.send(3, "x\n", true)
	if got := s.whole(b); got != "b\nx\n" {
		t.Errorf("beside it %q", got)
	}
	s.mu.Lock()
	of.still = false
	_ = s.f.WriteWindowUpdate(1, 1<<20)
	s.mu.Unlock()
	if got := s.whole(of); got != strings.Repeat("0123456789abcdef", much/16) {
		t.Errorf("%d bytes came", len(got))
	}

	taken := s.ask(5, "a.example.com:3306")
	s.send(5, "take\n", false)
	s.until(func() bool { return taken.head != nil })
	sent := make(chan struct{})
	go func() {
		s.send(5, strings.Repeat("x", 16<<20), true)
		close(sent)
	}()
	s.until(func() bool { return s.initial+s.windows[5] <= 0 || s.windows[0] <= 0 }) // the sidecar takes no more
	close(stalled)
	<-sent
	if n := <-read; n != 16<<20 {
		t.Errorf("the endpoint was sent %d bytes", n)
	}
	s.whole(taken)
}

// TestConnectHTTP2Drain: a shutdown says GOAWAY and waits for tunnels, which go on; those that last are cut off, and the error says so.
func TestConnectHTTP2Drain(t *testing.T) {
	t.Parallel()
	for _, cut := range []bool{false, true} {
		r := startMesh(t, entry("a.example.com", "", "TCP", 3306, speaking(t, "a")), allowConnect)
		s := dialStreams(t, r.sidecar.OutboundAddr().String())
		of := s.ask(1, "a.example.com:3306")
		s.until(func() bool { return of.data.Len() == 2 })
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		t.Cleanup(cancel)
		done := make(chan error, 1)
		go func() { done <- r.sidecar.Shutdown(ctx) }()
		s.until(func() bool { return len(s.goaways) == 2 })
		if s.goaways[0] != 1<<31-1 || s.goaways[1] != 1 {
			t.Errorf("GOAWAY names %v", s.goaways)
		}
		s.send(1, "more\n", false)
		s.until(func() bool { return of.data.String() == "a\nmore\n" })
		if cut {
			cancel()
			s.until(func() bool { return false })
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("cut off: %v", err)
			}
			continue
		}
		s.send(1, "", true)
		if got := s.whole(of); got != "a\nmore\n" {
			t.Errorf("%q", got)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
