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

// move moves to the end of what src sends. While little comes it is read into a buffer that is anybody's again afterwards, also while
// nothing does; while much does, and both sides are sockets of TCP, splice(2) moves what is there, whose pipe is so too. All that
// was moved is counted at once.
func (f *flow) move() error {
	source, ok := f.src.(*net.TCPConn)
	if !ok {
		return f.copy()
	}
	raw, err := source.SyscallConn()
	if err != nil {
		return err
	}
	w := &f.waiter
	_, w.splices = f.dst.(*net.TCPConn)
	w.ready = w.look
	for {
		if err := raw.Read(w.ready); err != nil { // where it waits; what moves has returned by then, so that the stack is small
			return err
		}
		if err := f.pass(source); err != nil {
			return ended(err)
		}
	}
}

// pass moves what was found.
func (f *flow) pass(source *net.TCPConn) error {
	w := &f.waiter
	switch {
	case w.err != nil:
		return w.err
	case w.buffer == nil:
		moved, err := f.dst.(*net.TCPConn).ReadFrom(&io.LimitedReader{R: source, N: int64(w.waiting)})
		f.passed(int(moved))
		return err
	}
	err := f.write(w.buffer[:w.waiting])
	flowBuffers.Put(w.buffer)
	w.buffer = nil
	return err
}

// A waiter waits for a socket to have something to be read.
type waiter struct {
	ready   func(fd uintptr) bool
	splices bool              // the other side takes what splice moves
	much    bool              // more came the last time than a buffer holds
	buffer  *[flowBuffer]byte // what was read, nil where it still waits in the socket
	waiting int               // bytes
	err     error             // io.EOF at the end
}

// look reads what there is, or asks how much it is where it may be much (SIOCINQ, tcp(7)).
func (w *waiter) look(fd uintptr) bool {
	w.buffer, w.err = nil, nil
	if w.much {
		var n int32
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&n)))
		if w.waiting = int(n); errno == 0 && n >= spliceWaiting {
			return true
		}
	}
	b := flowBuffers.Get().(*[flowBuffer]byte)
	n, err := syscall.Read(int(fd), b[:])
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(int(fd), b[:])
	}
	if n > 0 {
		w.buffer, w.waiting, w.much = b, n, w.splices && n == len(b)
		return true
	}
	flowBuffers.Put(b)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return false
	case err != nil:
		w.err = os.NewSyscallError("read", err)
	default:
		w.err = io.EOF
	}
	return true
}
