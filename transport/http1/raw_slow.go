//go:build unix && (!linux || race)

package http1

// The race detector follows bytes through package syscall only, and so do systems whose calls go through their C library.

func sysRead(fd uintptr, p []byte) (int, error)  { return slowRead(fd, p) }
func sysWrite(fd uintptr, p []byte) (int, error) { return slowWrite(fd, p) }
