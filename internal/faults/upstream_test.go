package faults_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// A breakage is a way to break, put together of what happens at the points where something can.
type breakage struct {
	down     bool                                                                                // the listener and all connections are gone
	accepted func(*exchange)                                                                     // instead of reading from a new connection
	head     func(*exchange)                                                                     // after a request's head, before its body
	answer   func(*exchange)                                                                     // instead of the answer
	idle     func() time.Duration                                                                // closes connections that were idle for so long
	dial     func(ctx context.Context, dial dialFunc, network, address string) (net.Conn, error) // instead of connecting
	share    float64                                                                             // of requests that meet head and answer, 0 for all
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// A state is what is wrong with an upstream at present; lifted is closed when that is over.
type state struct {
	breakage
	lifted chan struct{}
}

// An upstream is an HTTP/1.1 server that can break, on the bytes of its connections.
type upstream struct {
	host    int
	mirror  bool // what comes is copies
	book    *ledger
	address string
	state   atomic.Pointer[state]

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	opened   int
	ended    bool
	wg       sync.WaitGroup
}

func newUpstream(tb testing.TB, host int, book *ledger) *upstream {
	u := &upstream{host: host, book: book, address: loopback.Free(tb), conns: make(map[net.Conn]bool)}
	u.state.Store(&state{})
	if err := u.listen(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(u.stop)
	return u
}

func (u *upstream) listen() error {
	l, err := net.Listen("tcp", u.address)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.listener, u.address = l, l.Addr().String()
	u.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			u.take(c)
		}
	})
	return nil
}

func (u *upstream) take(c net.Conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended || u.state.Load().down {
		reset(c)
		return
	}
	u.conns[c] = true
	u.opened++
	u.wg.Go(func() {
		u.serve(c)
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.conns, c)
		_ = c.Close()
	})
}

// inject breaks the upstream; lift mends it.
func (u *upstream) inject(b breakage) {
	u.state.Store(&state{breakage: b, lifted: make(chan struct{})})
	if b.down {
		u.close()
	}
}

func (u *upstream) lift() error {
	old := u.state.Swap(&state{})
	if old.lifted != nil {
		close(old.lifted)
	}
	if old.down {
		return u.listen()
	}
	return nil
}

// close is what the kernel does for a process that is killed.
func (u *upstream) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	_ = u.listener.Close()
	for c := range u.conns {
		reset(c)
	}
}

func (u *upstream) stop() {
	if old := u.state.Swap(&state{}); old.lifted != nil {
		close(old.lifted)
	}
	u.mu.Lock()
	u.ended = true
	u.mu.Unlock()
	u.close()
	u.wg.Wait()
}

func (u *upstream) serve(c net.Conn) {
	x := &exchange{up: u, conn: c, br: bufio.NewReader(c)}
	if st := u.state.Load(); st.accepted != nil {
		u.book.strike(nil)
		x.state = st
		st.accepted(x)
	}
	for again := !x.over; again; {
		again = x.serve()
	}
}

// An exchange is one request on one connection, and its answer.
type exchange struct {
	up    *upstream
	conn  net.Conn
	br    *bufio.Reader
	state *state
	req   *http.Request
	entry *entry
	over  bool // nothing more is to be read from the connection
	early bool // the request has its answer before its body came
}

// serve reports whether the connection is kept.
func (x *exchange) serve() bool {
	u := x.up
	if idle := u.state.Load().idle; idle != nil && x.req != nil {
		_ = x.conn.SetReadDeadline(time.Now().Add(idle()))
	}
	_, err := x.br.Peek(1)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// What has come meanwhile is not overlooked: a server that is late to read is not one that closes.
		_ = x.conn.SetReadDeadline(time.Now().Add(100 * time.Microsecond))
		_, err = x.br.Peek(1)
	}
	if err != nil {
		return false
	}
	_ = x.conn.SetReadDeadline(time.Time{})
	if x.req, err = http.ReadRequest(x.br); err != nil {
		if !broken(err) {
			u.book.refuse(fmt.Sprintf("upstream %d: %v", u.host, err))
		}
		return false
	}
	x.state = u.state.Load()
	x.entry = u.book.open(u, x.req)
	meets := (x.state.head != nil || x.state.answer != nil) && (x.state.share == 0 || chance(x.entry, x.state.share))
	if meets {
		u.book.strike(x.entry)
		if x.state.head != nil {
			x.state.head(x)
		}
	}
	if x.over || x.early {
		return !x.over && x.skip()
	}
	if !x.receive() {
		return false
	}
	if meets && x.state.answer != nil {
		x.state.answer(x)
		return !x.over
	}
	x.reply()
	return !x.over
}

// broken reports whether an error only says that the other end has gone.
func broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// receive reads the body into the ledger.
func (x *exchange) receive() bool {
	if x.req.Header.Get("Expect") != "" {
		x.write("HTTP/1.1 100 Continue\r\n\r\n")
	}
	n, h, err := sumOf(x.req.Body)
	x.up.book.received(x.entry, n, h, err)
	return err == nil
}

// skip takes what comes of the body after the answer.
func (x *exchange) skip() bool {
	x.early = false
	_, err := io.Copy(io.Discard, x.req.Body)
	return err == nil
}

// reply answers as it should be.
func (x *exchange) reply() {
	n := answerOf(x.entry.id)
	x.begin("HTTP/1.1 200 OK", fmt.Sprintf("Content-Length: %d\r\n", n))
	x.send(n)
}

// begin writes the head of an answer.
func (x *exchange) begin(status, fields string) {
	x.up.book.answering(x.entry)
	x.write(fmt.Sprintf("%s\r\n%s: %d\r\n%s\r\n", status, identityField, x.entry.id, fields))
}

// send writes so much of the answer's body.
func (x *exchange) send(n int64) {
	if _, err := io.Copy(x.conn, stream(x.entry.id, answers, n)); err != nil {
		x.over = true
	}
}

func (x *exchange) write(text string) {
	if _, err := io.WriteString(x.conn, text); err != nil {
		x.over = true
	}
}

// end ends the connection in good order, reset by RST.
func (x *exchange) end()   { x.over = true; _ = x.conn.Close() }
func (x *exchange) reset() { x.over = true; reset(x.conn) }

// pause waits until the upstream is mended.
func (x *exchange) pause() { <-x.state.lifted }

// drain reads until the other end has enough.
func (x *exchange) drain() {
	x.over = true
	_, _ = io.Copy(io.Discard, x.br)
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
