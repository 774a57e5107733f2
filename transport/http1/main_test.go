package http1

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// outstanding counts buffers taken and not handed back.
var outstanding atomic.Int64

// TestMain overwrites every buffer that is handed back, so that what still looks at one reads garbage, and fails if a
// test leaves a buffer or a goroutine behind.
func TestMain(m *testing.M) {
	flag.Parse()
	measured := flag.Lookup("test.bench").Value.String() != ""
	if !measured {
		poison := bytes.Repeat([]byte{0xdd}, maxBuffer)
		tracing = func(b *buffer, taken bool) {
			if taken {
				outstanding.Add(1)
				return
			}
			outstanding.Add(-1)
			copy(b.b, poison)
		}
	}
	code := m.Run()
	if n := outstanding.Load(); n != 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d buffers were not handed back\n", n)
		code = 1
	}
	if left := leaked(); left != "" && code == 0 && !measured {
		fmt.Fprintf(os.Stderr, "goroutines are left:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leaked gives the goroutines that run code of this package, after some time to end.
func leaked() string {
	var left string
	for range 50 {
		left = ""
		buf := make([]byte, 1<<20)
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
			if strings.Contains(g, "transport/http1.") {
				left += g + "\n"
			}
		}
		if left == "" {
			return ""
		}
		runtime.Gosched()
		<-time.After(10 * time.Millisecond)
	}
	return left
}

// A wire is a net.Conn that gives what it was made with in given pieces, then EOF, and keeps what is written.
type wire struct {
	net.Conn
	in     [][]byte
	out    bytes.Buffer
	writes int
	short  int // a write takes at most so many bytes and says nothing, 0 for all
	broken error
	closed bool
}

func (w *wire) Read(p []byte) (int, error) {
	for len(w.in) > 0 && len(w.in[0]) == 0 {
		w.in = w.in[1:]
	}
	if len(w.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, w.in[0])
	w.in[0] = w.in[0][n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	w.writes++
	if w.broken != nil {
		return 0, w.broken
	}
	if w.short > 0 && len(p) > w.short {
		p = p[:w.short]
	}
	return w.out.Write(p)
}

func (w *wire) Close() error { w.closed = true; return nil }

// whole, cut and drip say how a message comes: at once, in two pieces, a byte at a time.
func whole(s string) *wire      { return &wire{in: [][]byte{[]byte(s)}} }
func cut(s string, i int) *wire { return &wire{in: [][]byte{[]byte(s[:i]), []byte(s[i:])}} }
func drip(s string) *wire       { return pieces(s, 1) }
func pieces(s string, n int) *wire {
	w := &wire{}
	for i := 0; i < len(s); i += n {
		w.in = append(w.in, []byte(s[i:min(len(s), i+n)]))
	}
	return w
}

// conn reads from nc and is closed with the test.
func conn(t testing.TB, nc net.Conn, limits *Limits) *Conn {
	c := NewConn(nc, limits)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// request reads one request.
func request(t testing.TB, raw string) (*Request, *Conn, error) {
	t.Helper()
	c := conn(t, whole(raw), nil)
	q := new(Request)
	return q, c, c.ReadRequest(q)
}

// response reads one response to a request with the method.
func response(t testing.TB, raw, method string) (*Response, *Conn, error) {
	t.Helper()
	c := conn(t, whole(raw), nil)
	p := new(Response)
	return p, c, c.ReadResponse(p, method)
}

// story tells all that a connection has to say, message after message, up to the error that ends it.
func story(c *Conn, asResponse string, read func(b *Body) ([]byte, error)) string {
	var s strings.Builder
	var q Request
	var p Response
	for {
		var err error
		f, b := &q.Fields, &q.Body
		if asResponse == "" {
			err = c.ReadRequest(&q)
		} else {
			err = c.ReadResponse(&p, asResponse)
			f, b = &p.Fields, &p.Body
		}
		if err != nil {
			fmt.Fprintf(&s, "error %v\n", err)
			return s.String()
		}
		if asResponse == "" {
			fmt.Fprintf(&s, "%s %s %d form=%d scheme=%s authority=%s path=%s query=%s persist=%t expect=%t differs=%t\n", q.Method(), q.Target(),
				q.Minor(), q.Form(), q.Scheme(), q.Authority(), q.Path(), q.Query(), q.Persistent(), q.ExpectContinue(), q.HostDiffers())
		} else {
			fmt.Fprintf(&s, "%d %q %d persist=%t tunnel=%t\n", p.Status(), p.Reason(), p.Minor(), p.Persistent(), p.Tunnel())
		}
		tellFields(&s, f)
		body, err := read(b)
		fmt.Fprintf(&s, "framing=%d length=%d body=%q\n", b.Framing(), b.Length(), body)
		if err != nil {
			fmt.Fprintf(&s, "error %v\n", err)
			return s.String()
		}
		tellFields(&s, b.Trailer())
		if asResponse != "" && p.Tunnel() {
			return s.String()
		}
	}
}

func tellFields(s *strings.Builder, f *Fields) {
	for i := range f.Len() {
		fmt.Fprintf(s, "\t%q: %q %d\n", f.Name(i), f.Value(i), f.ID(i))
	}
}

// The ways to read a body.
func byNext(b *Body) ([]byte, error) {
	var all []byte
	for {
		piece, err := b.Next(0)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, piece...)
	}
}

func byRead(size int) func(b *Body) ([]byte, error) {
	return func(b *Body) ([]byte, error) {
		var all []byte
		p := make([]byte, size)
		for {
			n, err := b.Read(p)
			all = append(all, p[:n]...)
			if errors.Is(err, io.EOF) {
				return all, nil
			}
			if err != nil {
				return all, err
			}
		}
	}
}

// wantError fails unless err is an *Error with the status and the section.
func wantError(t testing.TB, err error, status int, rule string) {
	t.Helper()
	var e *Error
	switch {
	case !errors.As(err, &e):
		t.Fatalf("got %v, want a refusal by %s", err, rule)
	case e.Status != status || e.Rule != rule:
		t.Errorf("refused with %d by %s (%s), want %d by %s", e.Status, e.Rule, e.Text, status, rule)
	}
}
