//go:build unix

package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// rawConn reads from a socket inside the runtime's wait, so that a buffer is taken only when there are bytes
// for it. Its two functions are made once: a closure for each read would be an allocation.
type rawConn struct {
	conn syscall.RawConn
	wait func(fd uintptr) bool
	look func(fd uintptr) bool

	// arguments and results of the function that runs
	size int
	buf  *buffer
	n    int
	err  error
	one  [1]byte
}

// init leaves conn nil for connections whose bytes do not come from a socket as they are.
func (r *rawConn) init(nc net.Conn) {
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
	r.wait, r.look = r.readable, r.peek
}

// await reads once into a buffer of the size, taken when there is something to read.
func (r *rawConn) await(size int) (*buffer, int, error) {
	r.size = size
	err := r.conn.Read(r.wait)
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
	r.buf = takeBuffer(r.size)
	r.n, r.err = sysRead(fd, r.buf.b)
	if errors.Is(r.err, syscall.EAGAIN) {
		putBuffer(r.buf)
		r.buf, r.err = nil, nil
		return false
	}
	return true
}

// quiet reports, without waiting, that there is nothing to read and no end.
func (r *rawConn) quiet() bool {
	err := r.conn.Read(r.look)
	quiet := err == nil && errors.Is(r.err, syscall.EAGAIN)
	r.err = nil
	return quiet
}

func (r *rawConn) peek(fd uintptr) bool {
	_, r.err = sysRead(fd, r.one[:])
	return true
}

func sysRead(fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
			continue
		}
		return 0, errno
	}
}

// quiet is rawConn.quiet for a connection that is not read here; where that cannot be told it is true. A byte that it
// finds is lost, and so is the connection.
func quiet(nc net.Conn) bool {
	var r rawConn
	r.init(nc)
	return r.conn == nil || r.quiet()
}

// rawWriter writes to a socket as rawConn reads from it.
type rawWriter struct {
	conn syscall.RawConn
	put  func(fd uintptr) bool

	b   []byte
	n   int
	err error
}

// write writes all of b.
func (r *rawWriter) write(b []byte) (int, error) {
	if r.put == nil {
		r.put = r.writable
	}
	r.b, r.n = b, 0
	err := r.conn.Write(r.put)
	if err == nil && r.err != nil {
		err = os.NewSyscallError("write", r.err)
	}
	r.b, r.err = nil, nil
	return r.n, err
}

func (r *rawWriter) writable(fd uintptr) bool {
	for r.n < len(r.b) {
		b := r.b[r.n:]
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			r.n += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			r.err = errno
			return true
		}
	}
	return true
}
