//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package http1

import "syscall"

// Departed reports whether the other side of a socket has ended the connection, without taking what it has sent and
// without waiting. secured says that what it has sent is TLS, where the last thing is a record that says so (RFC 8446 §6.1):
// then the end may be behind that.
func Departed(conn syscall.RawConn, secured bool) bool {
	over := false
	n := -1 // for a connection that has no socket after all
	var err error
	var one [1]byte
	if conn.Control(func(fd uintptr) {
		n, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		over = n > 0 && secured && ended(int(fd))
	}) != nil {
		return true
	}
	return over || err == nil && n == 0 || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
}

// Waiting reports whether there is something to read.
func Waiting(conn syscall.RawConn) bool {
	n := 0
	var one [1]byte
	_ = conn.Control(func(fd uintptr) {
		n, _, _ = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return n > 0
}
