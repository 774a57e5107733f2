//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// look waits for the first byte of a socket and leaves it there, so that the connection can be handed on as it is.
func look(conn *net.TCPConn) (first byte, ok bool, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false, nil //nolint:nilerr // there is the other way
	}
	var one [1]byte
	var n int
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, _, failed = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		return !errors.Is(failed, syscall.EAGAIN) && !errors.Is(failed, syscall.EINTR)
	})
	switch {
	case err != nil:
	case failed != nil:
		err = os.NewSyscallError("recvfrom", failed)
	case n == 0:
		err = io.EOF
	}
	return one[0], true, err
}
