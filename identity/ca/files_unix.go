//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package ca

import (
	"os"
	"syscall"
)

// owned reports whether a file is that of the user of this process.
func owned(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// lock takes the file for this process, without waiting. The lock ends with the file.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
