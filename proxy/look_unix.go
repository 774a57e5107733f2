//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package proxy

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// look waits until what a socket has to be read is enough, or fills b, and leaves it there. It gives how much there is, also with
// an error: io.EOF where the client has ended without a byte.
func look(raw syscall.RawConn, b []byte, enough func([]byte) bool) (n int, err error) {
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		var m int
		m, _, failed = syscall.Recvfrom(int(fd), b, syscall.MSG_PEEK)
		if errors.Is(failed, syscall.EAGAIN) || errors.Is(failed, syscall.EINTR) {
			return false
		}
		n = max(m, 0)
		return failed != nil || n == 0 || n == len(b) || enough(b[:n])
	})
	switch {
	case err != nil:
	case failed != nil:
		err = os.NewSyscallError("recvfrom", failed)
	case n == 0:
		err = io.EOF
	}
	return n, err
}
