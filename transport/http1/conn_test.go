package http1

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// B-050: a connection that waits holds no buffer, wherever its bytes come from.
func TestIdleHoldsNothing(t *testing.T) { // not parallel: it counts buffers
	if outstanding.Load() != 0 {
		t.Skipf("%d buffers are out", outstanding.Load())
	}
	for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){"unix": unixPair, "tcp": tcpPair, "pipe": pipePair} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			c := conn(t, b, nil)
			var q Request
			readable := make(chan error)
			for range 3 {
				go func() { readable <- c.WaitReadable() }()
				// It waits as soon as it can; that it holds nothing then shows at the end too, without a race.
				for range 100 {
					if n := outstanding.Load(); n != 0 && n != 1 {
						t.Fatalf("%d buffers while it waits", n)
					}
				}
				go func() { _, _ = io.WriteString(a, get("A: b")) }()
				if err := <-readable; err != nil {
					t.Fatal(err)
				}
				if err := c.ReadRequest(&q); err != nil || outstanding.Load() != 1 {
					t.Fatalf("%v, %d buffers", err, outstanding.Load())
				}
				c.Release()
				if n := outstanding.Load(); n != 0 || c.in != nil {
					t.Fatalf("%d buffers after Release", n)
				}
			}
			_ = b.SetReadDeadline(time.Unix(1, 0))
			if err := c.WaitReadable(); !errors.Is(err, os.ErrDeadlineExceeded) || outstanding.Load() != 0 {
				t.Errorf("%v, %d buffers", err, outstanding.Load())
			}
			// The deadline has taken nothing: the connection goes on.
			_ = b.SetReadDeadline(time.Time{})
			go func() { _, _ = io.WriteString(a, get("A: b")) }()
			if err := c.ReadRequest(&q); err != nil {
				t.Error(err)
			}
			c.Release()
		})
	}
}

// A deadline in the middle of a head or a body takes nothing either.
func TestDeadlineWithin(t *testing.T) {
	t.Parallel()
	m := chunkedHead + "5\r\nhello\r\n5\r\nworld\r\n0\r\nT: v\r\n\r\n"
	for i := range len(m) {
		a, b := pipePair(t)
		c := NewConn(b, nil)
		late := func(f func() error) error {
			err := f()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				_ = b.SetReadDeadline(time.Time{})
				err = f()
			}
			return err
		}
		go func() {
			_, _ = io.WriteString(a, m[:i])
			_ = b.SetReadDeadline(time.Unix(1, 0))
			_, _ = io.WriteString(a, m[i:])
		}()
		var q Request
		if err := late(func() error { return c.ReadRequest(&q) }); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		var body []byte
		if err := late(func() error { piece, err := byNext(&q.Body); body = append(body, piece...); return err }); err != nil || string(body) != "helloworld" || q.Body.Trailer().Len() != 1 {
			t.Errorf("%d: %q, %v", i, body, err)
		}
		_ = c.Close()
	}
}

// Views of one message do not change while what follows it is read, up to the next one.
func TestViewsStay(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 7000)
	raw := "POST /p HTTP/1.1\r\nHost: h\r\nA: " + long + "\r\nTransfer-Encoding: chunked\r\n\r\n" +
		strings.Repeat("1000\r\n"+strings.Repeat("b", 0x1000)+"\r\n", 50) + "0\r\nT: " + long + "\r\n\r\n" + strings.Repeat(get("A: b"), 300)
	for _, w := range []*wire{whole(raw), pieces(raw, 997), pieces(raw, 10000), cut(raw, 7100), cut(raw, len(raw)-9000)} {
		c := conn(t, w, nil)
		var q Request
		if err := c.ReadRequest(&q); err != nil {
			t.Fatal(err)
		}
		if _, err := byNext128(&q.Body); err != nil {
			t.Fatal(err)
		}
		if v, _ := q.Get("a", 0); v != long || q.Path() != "/p" || q.Host() != "h" {
			t.Error("the head has changed")
		}
		if v, _ := q.Body.Trailer().Get("t", 0); v != long {
			t.Error("the trailer has changed")
		}
		for i := range 300 {
			if err := c.ReadRequest(&q); err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
		}
		c.Release()
	}
}

// They stay while the connection waits for what follows, too.
func TestViewsStayWaiting(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 8100) // leaves no room in the head's buffer
	for _, size := range []string{"", long[:4000], long} {
		head := "POST /p HTTP/1.1\r\nHost: h\r\nA: " + size + "\r\nTransfer-Encoding: chunked\r\n\r\n"
		c := conn(t, &wire{in: [][]byte{[]byte(head), []byte("1\r\na\r\n0\r\nT: "), []byte("v\r\n\r\n"), []byte(get("A: b"))}}, nil)
		var q, next Request
		if err := c.ReadRequest(&q); err != nil {
			t.Fatal(err)
		}
		if _, err := byNext(&q.Body); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitReadable(); err != nil {
			t.Fatal(err)
		}
		if v, _ := q.Body.Trailer().Get("t", 0); v != "v" {
			t.Errorf("the trailer has become %q", v)
		}
		if v, _ := q.Get("a", 0); v != size || q.Path() != "/p" {
			t.Error("the head has changed")
		}
		if err := c.ReadRequest(&next); err != nil {
			t.Error(err)
		}
	}
}

func TestAlive(t *testing.T) {
	t.Parallel()
	answer := ok("Content-Length: 5")
	for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){"unix": unixPair, "tcp": tcpPair, "pipe": pipePair, "tls": tlsPair} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, c := range []struct {
				name   string
				after  string // comes together with the answer
				late   string // comes after it
				closes bool
				want   bool
			}{
				{"quiet", "", "", false, true},
				{"unasked bytes with the answer", "HTTP/1.1 200 OK\r\n\r\n", "", false, false},
				{"one byte with the answer", "\n", "", false, false},
				{"unasked bytes later", "", "HTTP/1.1 200 OK\r\n\r\n", false, false},
				{"closed", "", "", true, false},
			} {
				a, b := pair(t)
				cn := conn(t, b, nil)
				var p Response
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					_, _ = io.WriteString(a, answer+c.after)
				}()
				if err := cn.ReadResponse(&p, "GET"); err != nil {
					t.Fatal(err)
				}
				if cn.Alive() {
					t.Errorf("%s: alive before the body's end", c.name)
				}
				if body, err := byNext(&p.Body); err != nil || string(body) != "hello" {
					t.Fatalf("%q, %v", body, err)
				}
				<-wrote
				cn.Release()
				switch {
				case c.closes:
					_ = a.Close()
				case c.late != "" && name == "pipe":
					continue // see Alive: nothing shows there before it is read
				case c.late != "":
					_, _ = io.WriteString(a, c.late)
				}
				if name == "tcp" || name == "tls" {
					waitFor(t, func() bool { return cn.Alive() == c.want })
				}
				if got := cn.Alive(); got != c.want {
					t.Errorf("%s: alive %t", c.name, got)
				}
				if c.want && !cn.Alive() {
					t.Errorf("%s: not alive when asked again", c.name)
				}
				_ = a.Close()
			}
		})
	}
}

// waitFor waits for what the kernel does by itself.
func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	for range 12_000 { // a minute: nothing is measured by it
		if f() {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
}

// A record that TLS has read from the socket and not decrypted shows as well.
func TestAliveHiddenRecord(t *testing.T) {
	t.Parallel()
	a, b := tcpPair(t)
	cork := &corked{Conn: a}
	server, client := tlsOver(t, cork, b)
	c := conn(t, client, nil)
	cork.on = true
	_, _ = io.WriteString(server, "HTTP/1.1 204 \r\n\r\n")
	_, _ = io.WriteString(server, "HTTP/1.1 200 OK\r\n\r\n")
	_, _ = a.Write(cork.held)
	var p Response
	if err := c.ReadResponse(&p, "GET"); err != nil {
		t.Fatal(err)
	}
	if len(c.Buffered()) != 0 || !c.under.quiet() {
		t.Fatal("the second record is not where this test wants it")
	}
	if c.Alive() {
		t.Error("alive with an answer that nobody asked for")
	}
}

// A corked connection holds back what is written.
type corked struct {
	net.Conn
	on   bool
	held []byte
}

func (c *corked) Write(p []byte) (int, error) {
	if !c.on {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

func tlsPair(t testing.TB) (net.Conn, net.Conn) {
	a, b := tcpPair(t)
	return tlsOver(t, a, b)
}

func tlsOver(t testing.TB, a, b net.Conn) (net.Conn, net.Conn) {
	t.Helper()
	server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	client := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return server, client
}

func TestUseAfterClose(t *testing.T) {
	t.Parallel()
	a, b := tcpPair(t)
	_, _ = io.WriteString(a, get("A: b")+get("A: b"))
	c := NewConn(b, nil)
	var q Request
	if err := c.ReadRequest(&q); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	for range 2 {
		if err := c.ReadRequest(&q); !errors.Is(err, net.ErrClosed) {
			t.Errorf("ReadRequest says %v", err)
		}
		if err := c.WaitReadable(); !errors.Is(err, net.ErrClosed) || c.Alive() {
			t.Errorf("WaitReadable says %v", err)
		}
		c.Release()
	}
	if c.NetConn() != b {
		t.Error("NetConn gives another")
	}
}
