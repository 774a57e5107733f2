//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package http1

import "syscall"

// Departed knows nothing here: that a client has gone shows when something is written to it.
func Departed(syscall.RawConn, bool) bool { return false }

// Waiting knows nothing here either.
func Waiting(syscall.RawConn) bool { return false }
