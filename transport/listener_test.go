package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/internal/memory"
)

// pipes is a listener in memory. fail is what Accept gives first, one each.
type pipes struct {
	*memory.Listener
	fail  []error
	calls atomic.Int32
}

func newPipes(fail ...error) *pipes {
	return &pipes{Listener: memory.Listen(memory.Addr("pipes")), fail: fail}
}

func (p *pipes) Accept() (net.Conn, error) {
	if n := int(p.calls.Add(1)); n <= len(p.fail) {
		return nil, p.fail[n-1]
	}
	return p.Listener.Accept()
}

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := p.Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// accepts collects what the listener hands out, until it ends; the error it ends with comes last.
func accepts(l net.Listener) (<-chan net.Conn, <-chan error) {
	conns, ended := make(chan net.Conn, 64), make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			conns <- c
		}
	}()
	return conns, ended
}

func TestListenerTimesOutSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var counters inboundCounters
		inner := newPipes()
		l := newListener(inner, &counters, anyPort())
		conns, ended := accepts(l)
		began := time.Now()
		silent := inner.dial(t)
		if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(began) != SniffTimeout {
			t.Errorf("a silent connection was left with %v after %v", err, time.Since(began))
		}
		late := inner.dial(t)
		<-time.After(SniffTimeout - time.Nanosecond)
		go io.WriteString(late, "GET / HTTP/1.1\r\n")
		c := <-conns
		<-time.After(time.Hour) // the listener's time-out ends with the first byte
		buf := make([]byte, 16)
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "GET / HTTP/1.1\r\n" {
			t.Errorf("read %q, %v", buf, err)
		}
		c.Close()
		if n := counters.silent.Load(); n != 1 {
			t.Errorf("counted %d silent connections", n)
		}
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept ended with %v", err)
		}
	})
}

// TestListenerEvictsTheLongestSilent: however many are silent, a new connection is heard at once, and of the
// silent ones the oldest goes.
func TestListenerEvictsTheLongestSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var counters inboundCounters
		inner := newPipes()
		l := newListener(inner, &counters, anyPort())
		l.slots = make(chan struct{}, 3)
		conns, ended := accepts(l)
		var silent []net.Conn
		for range 3 {
			silent = append(silent, inner.dial(t))
		}
		began := time.Now()
		io.WriteString(inner.dial(t), "G")
		(<-conns).Close()
		if time.Since(began) != 0 || counters.crowded.Load() != 1 {
			t.Errorf("heard after %v, %d evicted", time.Since(began), counters.crowded.Load())
		}
		if _, err := silent[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the oldest was left with %v", err)
		}
		io.WriteString(silent[1], "G")
		(<-conns).Close()
		l.Close()
		<-ended
		if _, err := silent[2].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after Close the last was left with %v", err)
		}
	})
}

// TestListenerWaitsForASlowServer: connections that have spoken are not evicted; those beyond the bound
// stay with the inner listener.
func TestListenerWaitsForASlowServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var counters inboundCounters
		inner := newPipes()
		l := newListener(inner, &counters, anyPort())
		l.slots = make(chan struct{}, 2)
		l.start()
		for range 3 { // two ready, one accepted and waiting for their place
			go io.WriteString(inner.dial(t), "G")
			synctest.Wait()
		}
		soon, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		if _, err := inner.Dial(soon, "", ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a fourth connection was accepted: %v", err)
		}
		for range 3 {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		if n := counters.crowded.Load(); n != 0 {
			t.Errorf("%d evicted", n)
		}
		for range 2 {
			go io.WriteString(inner.dial(t), "G")
			synctest.Wait()
		}
		l.Close() // with connections nobody took
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		l.Close()
	})
}

func TestListenerBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		emfile := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		fail := make([]error, 12)
		for i := range fail {
			fail[i] = emfile
		}
		inner := newPipes(fail...)
		l := newListener(inner, new(inboundCounters), anyPort())
		conns, ended := accepts(l)
		began := time.Now()
		io.WriteString(inner.dial(t), "G")
		(<-conns).Close()
		// 5 ms doubled seven times, then 1 s four times.
		if took := time.Since(began); took != 5275*time.Millisecond {
			t.Errorf("twelve failures took %v", took)
		}
		l.Close()
		<-ended

		inner = newPipes(emfile)
		l = newListener(inner, new(inboundCounters), anyPort())
		_, ended = accepts(l)
		synctest.Wait()
		l.Close() // does not wait for the pause to pass
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed while it paused: %v", err)
		}
		broken := errors.New("broken")
		l = newListener(newPipes(broken), new(inboundCounters), anyPort())
		if _, err := l.Accept(); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		l.Close()
		l = newListener(newPipes(), new(inboundCounters), anyPort())
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept of a listener closed unused: %v", err)
		}
	})
}

func TestListenerRefusesTLS(t *testing.T) {
	t.Parallel()
	in := inbound(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, in, &http.Server{Handler: http.NotFoundHandler()}, l)
	for name, hello := range map[string]string{"one byte": "\x16", "a hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, hello)
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("%s was answered with %q", name, got)
		}
		c.Close()
	}
	if n := in.Counts(); n.TLS != 2 {
		t.Errorf("counted %+v", n)
	}
}

// TestPeekedConnections: reading, copying and half-closing see the connection as if nobody had looked.
func TestPeekedConnections(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			address := "127.0.0.1:0"
			if network == "unix" {
				address = t.TempDir() + "/s"
			}
			inner, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			l := newListener(inner, new(inboundCounters), anyPort())
			defer l.Close()
			for name, echo := range map[string]func(net.Conn) error{
				"copy": func(c net.Conn) error { _, err := io.Copy(c, c); return err },
				"read": func(c net.Conn) error {
					b, err := io.ReadAll(struct{ io.Reader }{c})
					c.Read(nil)
					c.Write(b)
					return err
				},
				"write to a sink": func(c net.Conn) error {
					r, w := io.Pipe()
					go func() { io.Copy(w, c); w.Close() }()
					b, err := io.ReadAll(r)
					c.Write(b)
					return err
				},
			} {
				client, err := net.Dial(network, inner.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(client, "ping pong")
				client.(interface{ CloseWrite() error }).CloseWrite()
				server, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if err := echo(server); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if err := server.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Errorf("%s: CloseWrite: %v", name, err)
				}
				if got, err := io.ReadAll(client); string(got) != "ping pong" || err != nil {
					t.Errorf("%s: %q, %v", name, got, err)
				}
				below := server // a TCP connection is handed out as it is, where a byte can be looked at and left
				if over, ok := server.(interface{ NetConn() net.Conn }); ok {
					below = over.NetConn()
				}
				if _, ok := below.(syscall.Conn); !ok {
					t.Errorf("%s: no socket below", name)
				}
				server.Close()
				client.Close()
			}
		})
	}
}

func TestPeekedTCPIsATCPConnection(t *testing.T) {
	t.Parallel()
	var c any = &peekedTCP{}
	if _, ok := c.(interface {
		io.ReaderFrom
		io.WriterTo
		syscall.Conn
		CloseRead() error
		CloseWrite() error
		SetLinger(int) error
		SetNoDelay(bool) error
		SetKeepAlive(bool) error
	}); !ok {
		t.Error("methods of *net.TCPConn are missing")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if got := (&peekedConn{Conn: a, head: new(head)}).CloseWrite(); !errors.Is(got, errors.ErrUnsupported) {
		t.Errorf("CloseWrite on a connection without it: %v", got)
	}
}

// anyPort has no policy.
func anyPort() *guard {
	return NewInbound(NewEngine(Config{Registry: new(discovery.Registry)})).guard(nil, nil)
}

// TestHandshakeTimesOut is row C-034: a handshake that does not end is ended.
func TestHandshakeTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		authority, err := ca.New("cluster.local", ca.Options{})
		if err != nil {
			t.Fatal(err)
		}
		id, _ := identity.Workload("cluster.local", "default", "server")
		m, err := authority.Issue(id)
		if err != nil {
			t.Fatal(err)
		}
		own := identity.New(identity.Options{})
		if err := own.Take(m); err != nil {
			t.Fatal(err)
		}
		engine := NewEngine(Config{Registry: new(discovery.Registry), Identity: own})
		defer engine.Close()
		in := NewInbound(engine)
		inner := newPipes()
		l := in.Listener(inner)
		_, ended := accepts(l)
		for _, text := range []string{"\x16", "\x16\x03\x01\x40\x00\x01"} {
			began := time.Now()
			conn := inner.dial(t)
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("%q is answered", text)
			}
			if took := time.Since(began); took != SniffTimeout {
				t.Errorf("%q: closed after %v", text, took)
			}
		}
		_ = l.Close()
		<-ended
		if n := in.Counts().Handshake; n != 2 {
			t.Errorf("%d counted", n)
		}
	})
}

// TestNotYetHeard: connections that the listener has no goroutine at yet are not silent, whatever they say: they do not make way.
func TestNotYetHeard(t *testing.T) {
	t.Parallel()
	var counters inboundCounters
	l := newListener(nil, &counters, nil)
	var conns [4]net.Conn
	for i := range conns {
		conn, other := net.Pipe()
		t.Cleanup(func() { _ = other.Close() })
		s := &sniffed{conn: conn}
		s.waits.Store(i == 2)
		l.silent.PushBack(s)
		conns[i] = other
	}
	if l.evict() || !l.evict() {
		t.Error("it does not know when to ask again")
	}
	if n := counters.crowded.Load(); n != 1 || l.silent.Len() != len(conns)-1 {
		t.Errorf("%d have made way, %d are left", n, l.silent.Len())
	}
	if _, err := conns[2].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("who is silent: %v", err)
	}
}
