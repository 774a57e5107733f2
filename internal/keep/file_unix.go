//go:build unix

package keep

import (
	"io/fs"
	"os"
	"syscall"
)

// noFollow has a symbolic link be an error, and a pipe nothing to wait for.
const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// owned reports whether it is this user's, or, where that will do, root's.
func owned(info fs.FileInfo, root bool) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && (int(s.Uid) == os.Geteuid() || root && s.Uid == 0)
}

// syncDirectory has a rename outlive the machine.
func syncDirectory(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
