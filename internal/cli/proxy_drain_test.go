//go:build unix

package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// times gives how often a proof is made: as many times as the variable says, which make life has in the hundreds, else a few.
func times(t testing.TB, variable string, few int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%s is no number", variable, text)
	}
	return n
}

// A plainCodec passes messages of gRPC as bytes.
type plainCodec struct{}

func (plainCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (plainCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (plainCodec) Name() string                       { return "plain" }

// echoStream is a bidirectional RPC of any name.
func echoStream(_ any, s grpc.ServerStream) error {
	for {
		var m []byte
		if err := s.RecvMsg(&m); err != nil {
			return nil //nolint:nilerr // the client has ended
		}
		if err := s.SendMsg(&m); err != nil {
			return err
		}
	}
}

// webSocketEcho accepts a WebSocket and sends back what comes.
func webSocketEcho(w http.ResponseWriter, _ *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(conn, rw) // masked frames come back masked, which nobody here minds
}

// download is a body whose sum the client knows.
type download struct{ size int64 }

func (d download) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", strconv.FormatInt(d.size, 10))
	_, _ = io.Copy(w, d.reader())
}

func (d download) reader() io.Reader { return io.LimitReader(new(counting), d.size) }

// counting is an endless reader that never gives the same for long.
type counting struct{ n uint32 }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.n ^ c.n>>8 ^ c.n>>16)
		c.n++
	}
	return len(p), nil
}

// upstreamOf serves HTTP/1.1 and HTTP/2 and gives the address.
func upstreamOf(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.CloseClientConnections) // tunnels are no longer the server's
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// sidecarOf starts a sidecar before the handler and gives its addresses.
func sidecarOf(t *testing.T, h http.Handler, args ...string) (*process, map[string]string) {
	t.Helper()
	p := spawn(t, nil, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1"), "--inbound", loopback.Free(t) + "=" + upstreamOf(t, h)}, apart, args)...)
	return p, p.addresses()
}

// TestLifeLongStreams: SIGTERM lets WebSockets, streams of gRPC and downloads go on as they were, byte by byte; those that have not ended
// at the limit are told: 1001, UNAVAILABLE (E-006). make life has it with 100, 100 and 10 of 100 MB.
func TestLifeLongStreams(t *testing.T) {
	t.Parallel()
	many, size := times(t, "HEDDLE_LIFE_STREAMS", 10), int64(times(t, "HEDDLE_LIFE_DOWNLOAD", 4<<20))
	rpc := grpc.NewServer(grpc.ForceServerCodec(plainCodec{}), grpc.UnknownServiceHandler(echoStream))
	t.Cleanup(rpc.Stop)
	begun, file := make(chan struct{}, many), download{size}
	mux := http.NewServeMux()
	mux.HandleFunc("/socket", webSocketEcho)
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		file.ServeHTTP(w, r)
	})
	mux.Handle("/", rpc)
	p, at := sidecarOf(t, mux, "--drain-delay", "0", "--drain-timeout", "1h")

	var sockets []net.Conn
	ping := []byte{0x81, 0x84, 0, 0, 0, 0, 'p', 'i', 'n', 'g'}
	echoed := func(c net.Conn) error {
		if _, err := c.Write(ping); err != nil {
			return err
		}
		got := make([]byte, len(ping))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, ping) {
			return fmt.Errorf("% x, %w", got, err)
		}
		return nil
	}
	for range many {
		c, err := net.Dial("tcp", at["inbound"])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = io.WriteString(c, "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		head := make([]byte, 0, 256)
		for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			if _, err := io.ReadFull(c, head[len(head):len(head)+1]); err != nil {
				t.Fatalf("%q, %v", head, err)
			}
			head = head[:len(head)+1]
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
			t.Fatalf("%q", head)
		}
		sockets = append(sockets, c)
	}
	conn, err := grpc.NewClient("passthrough:///"+at["inbound"], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plainCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var streams []grpc.ClientStream
	said := func(s grpc.ClientStream) error {
		m := []byte("ping")
		if err := s.SendMsg(&m); err != nil {
			return err
		}
		var got []byte
		if err := s.RecvMsg(&got); err != nil || string(got) != "ping" {
			return fmt.Errorf("%q, %w", got, err)
		}
		return nil
	}
	for range many {
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/echo.Echo/Talk")
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	talk := func(when string) {
		t.Helper()
		for i := range many {
			if err := errors.Join(echoed(sockets[i]), said(streams[i])); err != nil {
				t.Fatalf("%s: %d: %v", when, i, err)
			}
		}
	}
	talk("before")
	want := sha256.New()
	_, _ = io.Copy(want, file.reader())
	var downloads sync.WaitGroup
	for range max(1, many/10) {
		downloads.Go(func() {
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr}).Get("http://" + at["inbound"] + "/file")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got := sha256.New()
			if n, err := io.Copy(got, resp.Body); n != size || err != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				t.Errorf("a download of %d bytes, %v", n, err)
			}
		})
	}
	for range max(1, many/10) {
		<-begun
	}
	p.signal(syscall.SIGTERM)
	for { // the door is closed
		c, err := net.Dial("tcp", at["inbound"])
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err == nil {
			_ = c.Close()
		}
	}
	talk("while it drains")
	downloads.Wait()
	talk("when all else has ended")
	p.signal(syscall.SIGTERM) // this is the limit
	for i, c := range sockets {
		if got, err := io.ReadAll(c); !bytes.Equal(got, []byte{0x88, 2, 3, 0xe9}) || err != nil {
			t.Errorf("socket %d ended with % x, %v", i, got, err)
		}
		_ = c.Close()
	}
	for i, s := range streams {
		var m []byte
		if err := s.RecvMsg(&m); status.Code(err) != codes.Unavailable {
			t.Errorf("stream %d ended with %v", i, err)
		}
	}
	if code := p.code(); code != exitFailed { // something was cut off
		t.Errorf("exit code %d: %s", code, p.said())
	}
}

// A crowd asks all the time, over HTTP/1.1 with connections that are not kept and that are, and, of three kinds, over HTTP/2. Whoever finds the door closed
// goes; whoever is answered with anything but a 200, or not at all, is counted as lost.
type crowd struct {
	t        *testing.T
	running  sync.WaitGroup
	answered atomic.Int64
	lost     atomic.Int64
	refused  atomic.Int64
	stop     chan struct{}
}

func newCrowd(t *testing.T, url string, kinds int, pause time.Duration) *crowd {
	c := &crowd{t: t, stop: make(chan struct{})}
	for n := range 9 {
		tr := &http.Transport{DisableKeepAlives: n%kinds == 0}
		if n%kinds == 2 {
			tr.Protocols = new(http.Protocols)
			tr.Protocols.SetUnencryptedHTTP2(true)
		}
		c.running.Go(func() {
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr}
			for {
				select {
				case <-c.stop:
					return
				default:
				}
				if pause > 0 {
					<-time.After(pause)
				}
				if !c.ask(client, url) {
					return
				}
			}
		})
	}
	return c
}

// ask reports whether there is somebody to ask again.
func (c *crowd) ask(client *http.Client, url string) bool {
	resp, err := client.Get(url)
	if errors.Is(err, syscall.ECONNREFUSED) {
		c.refused.Add(1)
		return false
	}
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
	}
	if err != nil {
		if c.lost.Add(1) <= 5 {
			c.t.Errorf("after %d answers: %v", c.answered.Load(), err)
		}
		return true
	}
	c.answered.Add(1)
	return true
}

func (c *crowd) hasAnswers(n int64) {
	for from := c.answered.Load(); c.answered.Load() < from+n && c.lost.Load() == 0; {
		<-time.After(time.Millisecond)
	}
}

// TestLifeTerminated: under load, SIGTERM after SIGTERM, nothing that was let in is lost, and the sidecar ends with 0 (E-005). make life has
// it 200 times at 1,000 requests a second.
func TestLifeTerminated(t *testing.T) {
	t.Parallel()
	n := times(t, "HEDDLE_LIFE_TERMS", 2)
	pause := time.Duration(0)
	if n > 10 {
		pause = 9 * time.Millisecond // of nine
	}
	var answered int64
	var longest time.Duration
	for range n {
		p, at := sidecarOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }),
			"--drain-delay", "50ms", "--drain-timeout", "1h")
		c := newCrowd(t, "http://"+at["inbound"]+"/x", 3, pause)
		c.hasAnswers(200)
		began := time.Now()
		p.signal(syscall.SIGTERM)
		c.running.Wait()
		if code := p.code(); code != exitOK {
			t.Fatalf("exit code %d: %s", code, p.said())
		}
		longest = max(longest, time.Since(began))
		if c.lost.Load() > 0 {
			t.Fatal(p.said())
		}
		answered += c.answered.Load()
	}
	t.Logf("%d times SIGTERM: %d requests answered, 0 lost; at most %s from the signal to the end, 50 ms of that the drain delay", n, answered, longest)
}
