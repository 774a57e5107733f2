//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package proxy

import "syscall"

// departed knows nothing here: that a client has gone shows when something is written to it.
func departed(syscall.RawConn, bool) bool { return false }

func waiting(syscall.RawConn) bool { return false }
