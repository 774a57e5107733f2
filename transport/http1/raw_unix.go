//go:build unix

package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// rawConn reads from a socket inside the runtime's wait, so that a buffer is taken only when there are bytes
// for it. Its functions are made once: a closure for each read would be an allocation.
type rawConn struct {
	conn   syscall.RawConn
	wait   func(fd uintptr) bool
	client *rawClient // nil until it is one

	// arguments and results of the function that runs
	size int
	buf  *buffer
	n    int
	err  error
	one  [1]byte

	held *atomic.Int64 // counts the buffers
}

// rawClient is what only client connections need.
type rawClient struct {
	look     func(fd uintptr) bool
	question func(fd uintptr) bool

	// arguments and results of question
	w    *Writer // nil once it has written
	last []byte
	sent error
}

// init leaves conn nil for connections whose bytes do not come from a socket as they are.
func (r *rawConn) init(nc net.Conn, held *atomic.Int64) {
	r.held = held
	var err error
	switch nc := nc.(type) {
	case *net.TCPConn:
		r.conn, err = nc.SyscallConn()
	case *net.UnixConn:
		r.conn, err = nc.SyscallConn()
	}
	if err != nil {
		r.conn = nil
		return
	}
	r.wait = r.readable
}

func (r *rawConn) asClient() *rawClient {
	if r.client == nil {
		r.client = &rawClient{look: r.peek, question: r.asked}
	}
	return r.client
}

// await reads once into a buffer of the size, taken when there is something to read.
func (r *rawConn) await(size int) (*buffer, int, error) {
	r.size = size
	return r.result(r.conn.Read(r.wait))
}

// result gives what the function that runs in the wait has read, or why it has not.
func (r *rawConn) result(err error) (*buffer, int, error) {
	b, n, readErr := r.buf, r.n, r.err
	r.buf, r.n, r.err = nil, 0, nil
	switch {
	case err != nil:
	case readErr != nil:
		err = os.NewSyscallError("read", readErr)
	case n == 0:
		err = io.EOF
	default:
		return b, n, nil
	}
	putBuffer(b)
	return nil, 0, err
}

func (r *rawConn) readable(fd uintptr) bool {
	r.buf = takeBuffer(r.size, r.held)
	r.n, r.err = sysRead(fd, r.buf.b)
	if errors.Is(r.err, syscall.EAGAIN) {
		putBuffer(r.buf)
		r.buf, r.err = nil, nil
		return false
	}
	return true
}

// ask lets w finish with last where there is nothing to read and no end, and then reads once as await does. sent is
// errStale where there is, or the error of w.
//
// This is one system call less than to look, to send and to read: a read right after the sending would find nothing, as the
// look before it has. The runtime forgets what it knows of a socket's readiness when the wait begins, before asked runs; so
// what the look did not see comes after that and ends the wait, be it an answer or an end.
func (r *rawConn) ask(w *Writer, last []byte) (b *buffer, n int, sent, err error) {
	q := r.asClient()
	q.w, q.last, r.size = w, last, 0
	err = r.conn.Read(q.question)
	begun := q.w == nil
	sent, q.w, q.last, q.sent = q.sent, nil, nil, nil
	switch {
	case !begun: // a deadline had passed, or the connection was closed here
		return nil, 0, err, nil
	case sent != nil:
		return nil, 0, sent, nil
	}
	b, n, err = r.result(err)
	return b, n, nil, err
}

func (r *rawConn) asked(fd uintptr) bool {
	q := r.client
	w := q.w
	if w == nil {
		return r.readable(fd)
	}
	q.w = nil
	if _, err := sysRead(fd, r.one[:]); !errors.Is(err, syscall.EAGAIN) {
		q.sent = errStale
		return true
	}
	q.sent = w.Finish(q.last)
	return q.sent != nil
}

// quiet reports, without waiting, that there is nothing to read and no end.
func (r *rawConn) quiet() bool {
	err := r.conn.Read(r.asClient().look)
	quiet := err == nil && errors.Is(r.err, syscall.EAGAIN)
	r.err = nil
	return quiet
}

func (r *rawConn) peek(fd uintptr) bool {
	_, r.err = sysRead(fd, r.one[:])
	return true
}

func slowRead(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err == syscall.EINTR {
			continue
		}
		return max(n, 0), err
	}
}

func slowWrite(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), p)
		if err == syscall.EINTR {
			continue
		}
		return max(n, 0), err
	}
}
