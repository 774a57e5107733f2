package drain_test

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/drain"
)

// TestStopResetsNobody: while clients connect all the time, a listener ends; whoever is connected by then gets
// his answer.
func TestStopResetsNobody(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("without Linux a connection is reset now and then")
	}
	for range 20 {
		var c net.ListenConfig
		c.SetMultipathTCP(false)
		l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var clients, server sync.WaitGroup
		ended := make(chan struct{})
		for range 4 {
			clients.Go(func() {
				for {
					select {
					case <-ended:
						return
					default:
					}
					visit(t, l.Addr().String())
				}
			})
		}
		server.Go(func() { serve(t, l, ended) })
		for range 20 {
			visit(t, l.Addr().String())
		}
		if !drain.Stop(l) {
			t.Fatal("a TCP listener cannot stop")
		}
		server.Wait()
		clients.Wait()
	}
}

// serve greets everybody, until the listener is stopped and nobody waits in its queue.
func serve(t *testing.T, l net.Listener, ended chan struct{}) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			break
		}
		greet(conn)
	}
	for conn := drain.Queued(l); conn != nil; conn = drain.Queued(l) {
		greet(conn)
	}
	l.Close()
	close(ended)
}

func greet(conn net.Conn) {
	_, _ = io.WriteString(conn, "hello")
	_ = conn.Close()
}

// visit fails the test where a connection that was made gets no greeting. One that is not made is nobody's fault.
func visit(t *testing.T, addr string) {
	// A SYN that is dropped is sent again after a second, which this does not wait for.
	conn, err := net.DialTimeout("tcp", addr, 50*time.Millisecond)
	if err != nil {
		return
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
		t.Errorf("a connection that was made got %q, %v", got, err)
	}
}

func TestStopWithoutDeadlines(t *testing.T) {
	t.Parallel()
	if drain.Stop(struct{ net.Listener }{}) {
		t.Error("a listener that knows no deadline stopped")
	}
	if drain.Queued(struct{ net.Listener }{}) != nil {
		t.Error("a connection of nothing")
	}
}
