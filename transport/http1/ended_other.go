//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package http1

// ended knows nothing here: the end shows when all before it is read.
func ended(int) bool { return false }
