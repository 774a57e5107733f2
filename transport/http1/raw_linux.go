//go:build linux && !race

package http1

import (
	"syscall"
	"unsafe"
)

// quick is up to how many bytes a system call on a socket is over so soon that the scheduler is not told of it.
const quick = 16 << 10

// sysRead reads once from a socket that does not block.
func sysRead(fd uintptr, p []byte) (int, error) {
	if len(p) > quick {
		return slowRead(fd, p)
	}
	return quickly(syscall.SYS_READ, fd, p)
}

// sysWrite writes once, as sysRead reads.
func sysWrite(fd uintptr, p []byte) (int, error) {
	if len(p) > quick {
		return slowWrite(fd, p)
	}
	return quickly(syscall.SYS_WRITE, fd, p)
}

// quickly makes a system call without telling the scheduler.
//
// Telling it, as syscall.Read does, costs more than the bookkeeping: on a busy machine it makes the runtime's monitor look
// every 20 µs whether somebody else could have the processor meanwhile, and take it away. Measured in the sidecar
// (docs/performance.md), a tenth of what a request costs. The call cannot wait, so that there is nothing to tell; the runtime
// does the same with its own epoll_ctl.
func quickly(trap, fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
