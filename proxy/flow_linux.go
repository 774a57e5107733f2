package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// spliceWaiting is how much has to wait in a socket for the kernel to move it: below, two system calls that copy cost less than
// those of a pipe.
const spliceWaiting = 16 << 10

// move moves to the end of what src sends. Between two sockets of TCP it waits for something to be there, and then moves what is:
// a little by a buffer that is anybody's again afterwards, much by splice(2), whose pipe is so too. Nothing is held while
// nothing comes, and all that was moved is counted at once.
func (f *flow) move() error {
	source, ok := f.src.(*net.TCPConn)
	if !ok {
		return f.copy()
	}
	raw, err := source.SyscallConn()
	if err != nil {
		return err
	}
	target, plain := f.dst.(*net.TCPConn)
	limited := io.LimitedReader{R: source}
	w := waiter{raw: raw}
	w.ready = w.look
	for {
		if err := w.wait(); err != nil {
			return ended(err)
		}
		if !plain || w.waiting < spliceWaiting {
			err = f.moveLittle(source)
		} else {
			limited.N = int64(w.waiting)
			var n int64
			n, err = target.ReadFrom(&limited)
			f.passed(int(n))
		}
		if err != nil {
			return ended(err)
		}
	}
}

// moveLittle moves what one read brings, of what is there.
func (f *flow) moveLittle(source *net.TCPConn) error {
	b := flowBuffers.Get().(*[flowBuffer]byte)
	defer flowBuffers.Put(b)
	n, err := source.Read(b[:])
	if err != nil {
		return err
	}
	return f.write(b[:n])
}

// A waiter waits for a socket to have something to be read.
type waiter struct {
	raw     syscall.RawConn
	ready   func(fd uintptr) bool
	waiting int // bytes
	err     error
}

// wait gives io.EOF at the end.
func (w *waiter) wait() error {
	if err := w.raw.Read(w.ready); err != nil {
		return err
	}
	return w.err
}

// look asks how much there is (SIOCINQ, tcp(7)), and where that is nothing, whether it is the end.
func (w *waiter) look(fd uintptr) bool {
	var n int32
	w.err = nil
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&n))); errno == 0 && n > 0 { //nolint:gosec // G103: the call wants a pointer
		w.waiting = int(n)
		return true
	}
	var one [1]byte
	got, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
	switch {
	case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR):
		return false
	case err != nil:
		w.err = os.NewSyscallError("recvfrom", err)
	case got == 0:
		w.err = io.EOF
	default:
		w.waiting = got
	}
	return true
}
