package handover_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/heddlemesh/mesh/internal/handover"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// socket gives a path that is short enough.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ho") //nolint:usetesting // t.TempDir's names are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func offer(t *testing.T, path string, stop func(), report func(error), sockets ...handover.Socket) *handover.Offer {
	t.Helper()
	o, err := handover.Serve(path, func() []handover.Socket { return sockets }, stop, report)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

// TestHandover: the successor accepts from the same sockets, also who was in their queues when the predecessor had let go.
func TestHandover(t *testing.T) {
	t.Parallel()
	path, a, b := socket(t), listen(t), listen(t)
	stopped := make(chan struct{})
	o := offer(t, path, func() {
		_ = a.Close()
		_ = b.Close()
		close(stopped)
	}, func(err error) { t.Error(err) }, handover.Socket{Name: ":a", Closer: a}, handover.Socket{Name: ":b", Closer: b})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	waits, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer waits.Close()
	taken, err := handover.Take(t.Context(), path)
	if err != nil || taken == nil {
		t.Fatalf("%v, %v", taken, err)
	}
	l := taken.Listener(":a")
	if l == nil || l.Addr().String() != a.Addr().String() || taken.Listener(":a") != nil || taken.Listener(":c") != nil {
		t.Fatalf("listener %v", l)
	}
	defer l.Close()
	if err := taken.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-stopped
	if _, err := io.WriteString(waits, "x"); err != nil {
		t.Error(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, 1)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	o.Close()
	if taken, err := handover.Take(t.Context(), path); taken != nil || err != nil {
		t.Errorf("it is offered twice: %v, %v", taken, err)
	}
	offer(t, path, func() {}, func(error) {}, handover.Socket{Name: ":a", Closer: l}) // in the place of the name that is left
}

// TestHandoverPackets: the successor reads from the same socket of UDP, also what was in its queue when the predecessor had let go, and only by
// its own kind.
func TestHandoverPackets(t *testing.T) {
	t.Parallel()
	path, a := socket(t), listen(t)
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	client, err := net.Dial("udp", p.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	offer(t, path, func() {
		if _, err := io.WriteString(client, "waits"); err != nil {
			t.Error(err)
		}
		_ = p.Close()
	}, func(err error) { t.Error(err) }, handover.Socket{Name: "same", Closer: a}, handover.Socket{Name: "same", Closer: p}, handover.Socket{Name: "only", Closer: a})
	taken, err := handover.Take(t.Context(), path)
	if err != nil || taken == nil {
		t.Fatalf("%v, %v", taken, err)
	}
	q := taken.PacketConn("same")
	if q == nil || q.LocalAddr().String() != p.LocalAddr().String() || taken.PacketConn("same") != nil || taken.PacketConn("only") != nil {
		t.Fatalf("socket %v", q)
	}
	defer q.Close()
	l := taken.Listener("same")
	if l == nil || l.Addr().String() != a.Addr().String() || taken.Listener("same") != nil {
		t.Fatalf("listener %v", l)
	}
	defer l.Close()
	if err := taken.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	n, from, err := q.ReadFrom(got)
	if err != nil || string(got[:n]) != "waits" {
		t.Fatalf("%q, %v", got[:n], err)
	}
	if _, err := q.WriteTo([]byte("heard"), from); err != nil {
		t.Fatal(err)
	}
	if n, err = client.Read(got); err != nil || string(got[:n]) != "heard" {
		t.Errorf("%q, %v", got[:n], err)
	}
}

// TestHandoverFails: a successor that does not get ready, or is none, leaves the predecessor as it was.
func TestHandoverFails(t *testing.T) {
	t.Parallel()
	path, a := socket(t), listen(t)
	told := make(chan error, 10)
	o := offer(t, path, func() { t.Error("it stopped for nobody") }, func(err error) { told <- err }, handover.Socket{Name: ":a", Closer: a})
	taken, err := handover.Take(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	taken.Close()
	if err := <-told; !strings.Contains(err.Error(), "did not get ready") {
		t.Error(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
	_ = c.Close()
	if err := <-told; err == nil {
		t.Error("nothing was wrong")
	}
	// Its own socket blocks nobody: it accepts as before.
	var clients sync.WaitGroup
	clients.Go(func() {
		if c, err := net.Dial("tcp", a.Addr().String()); err == nil {
			_ = c.Close()
		}
	})
	if c, err := a.Accept(); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
	clients.Wait()
	held, err := handover.Take(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	o.Close() // while somebody has the sockets
	if err := held.Ready(t.Context()); err == nil {
		t.Error("a predecessor that has gone has answered")
	}
}

// TestHandoverPipe: what is no socket of TCP or UDP is not handed over.
func TestHandoverPipe(t *testing.T) {
	t.Parallel()
	c, other := net.Pipe()
	defer c.Close()
	defer other.Close()
	path, told := socket(t), make(chan error, 1)
	offer(t, path, func() {}, func(err error) { told <- err }, handover.Socket{Name: "pipe", Closer: c})
	if taken, err := handover.Take(t.Context(), path); taken != nil || err == nil {
		t.Errorf("%v, %v", taken, err)
	}
	if err := <-told; !strings.Contains(err.Error(), "socket pipe is neither") {
		t.Error(err)
	}
}

// pretend has what it is given talk to the one who comes to the socket. end waits for it.
func pretend(t *testing.T, path string, talk func(net.Conn)) (end func()) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		talk(c)
	})
	return func() {
		server.Wait()
		_ = l.Close()
	}
}

// TestTakeFrom: nobody, and somebody who speaks something else.
func TestTakeFrom(t *testing.T) {
	t.Parallel()
	path := socket(t)
	if taken, err := handover.Take(t.Context(), path); taken != nil || err != nil {
		t.Errorf("nobody: %v, %v", taken, err)
	}
	var none *handover.Taken
	if none.Listener(":a") != nil || none.PacketConn(":a") != nil {
		t.Error("a socket of nobody's")
	}
	none.Close()
	for _, says := range []string{"", "\n", "{}\n", `{"protocol":1,"names":["a"]}` + "\n", `{"protocol":2,"names":[]}` + "\n", strings.Repeat("x", 100<<10)} {
		end := pretend(t, path, func(c net.Conn) { _, _ = io.WriteString(c, says) })
		taken, err := handover.Take(t.Context(), path)
		if taken != nil || err == nil {
			t.Errorf("%.20q: %v, %v", says, taken, err)
		}
		end()
	}
	if _, err := handover.Serve(filepath.Join(path, "no", "directory"), nil, nil, nil); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
