//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package ca

import (
	"os"
	"syscall"
)

// lock takes the file for this process, without waiting. The lock ends with the file.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
