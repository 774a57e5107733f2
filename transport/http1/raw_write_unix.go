//go:build unix

package http1

import (
	"errors"
	"os"
	"syscall"
)

// rawWriter writes to a socket with the system calls that rawConn reads with.
type rawWriter struct {
	conn syscall.RawConn
	put  func(fd uintptr) bool // made once

	// arguments and results of put
	b   []byte
	n   int
	err error
}

// write writes all of b and gives how much of it went.
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
		n, err := sysWrite(fd, r.b[r.n:])
		if r.n += n; errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			r.err = err
			return true
		}
	}
	return true
}
