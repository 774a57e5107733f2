package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
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
	w := &f.waiter
	if w.raw == nil {
		var err error
		if w.raw, err = source.SyscallConn(); err != nil {
			return err
		}
		_, w.splices = f.dst.(*net.TCPConn)
		w.ready = f.look
	}
	for {
		err := w.raw.Read(w.ready) // where it waits; what moves has returned by then, so that the stack is small
		if w.armed && err == nil {
			w.armed = false
			if f.park() {
				return errParked
			}
			continue
		}
		if err == nil {
			f.warm()
			err = f.pass(source)
		}
		if err != nil && !f.nudged(err) {
			return ended(err)
		}
	}
}

// What makes a flow warm: so much has come one after the other, each within this time of the flow's having nothing to do. To be parked and
// taken up again costs about what a system call does.
const (
	warmAfter  = 8
	warmWithin = 50 * time.Millisecond
)

// warm notes that something moves. Where that happens often the flow waits in its goroutine, until it is nudged.
func (f *flow) warm() {
	w := &f.waiter
	if f.tunnel == nil {
		return
	}
	w.moved.Store(true)
	if w.warm {
		return
	}
	if w.often++; time.Since(w.since) > warmWithin {
		w.often = 0
	}
	if w.often >= warmAfter {
		w.warm, w.often = true, 0
		f.tunnel.session.wire.parked.watch(f)
	}
}

// nudge has a flow that waits look whether it can be parked.
func (f *flow) nudge() {
	s := f.tunnel.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == notEnded {
		f.waiter.nudge.Store(true)
		_ = f.src.SetReadDeadline(past)
	}
}

// nudged reports whether an error is only that the flow was nudged.
func (f *flow) nudged(err error) bool {
	if !f.waiter.nudge.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	s := f.tunnel.session
	s.mu.Lock()
	defer s.mu.Unlock()
	f.waiter.nudge.Store(false)
	f.waiter.warm = false
	return s.why == notEnded && f.src.SetReadDeadline(time.Time{}) == nil
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
	raw     syscall.RawConn
	ready   func(fd uintptr) bool
	splices bool              // the other side takes what splice moves
	much    bool              // more came the last time than a buffer holds
	buffer  *[flowBuffer]byte // what was read, nil where it still waits in the socket
	waiting int               // bytes
	err     error             // io.EOF at the end
	armed   bool              // there was nothing, and the tunnel's parking will say when there is
	known   bool              // to that
	fd      int32             // by which it knows it
	warm    bool              // much has come of late, so that it is not to be parked
	often   uint8             // how much has come, see warmAfter
	since   time.Time         // when there was nothing the last time
	moved   atomic.Bool       // since the parking looked last
	nudge   atomic.Bool       // it is to look whether it can be parked
}

// look reads what there is, or asks how much it is where it may be much (SIOCINQ, tcp(7)). Where there is nothing the flow can be parked.
func (f *flow) look(fd uintptr) bool {
	w := &f.waiter
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
		w.armed = f.tunnel != nil && !w.warm && f.state.Load() != flowStays && f.tunnel.session.wire.parked.arm(int(fd), f)
		if w.armed {
			w.since = time.Now()
		}
		return w.armed
	case err != nil:
		w.err = os.NewSyscallError("read", err)
	default:
		w.err = io.EOF
	}
	return true
}
