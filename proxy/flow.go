package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// A flow is one direction of a tunnel. While it waits it holds no buffer to speak of, no pipe and, where it can be parked, no goroutine.
type flow struct {
	dst    io.WriteCloser
	src    net.Conn
	first  []byte      // goes before the rest
	count  func(n int) // hears of bytes when they have been passed on; nil for nobody
	tunnel *tunnel     // by which it can be parked; nil where it cannot
	state  atomic.Int32

	waiter waiter
}

// What becomes of a flow that can be parked.
const (
	flowRuns   = iota // or waits in its goroutine
	flowCame          // it runs, and has been told that there is something to read
	flowParked        // it has no goroutine
	flowStays         // it runs to its end and is not parked any more
)

// park says that the flow has no goroutine from now on: who calls must not touch it any more. It reports false where something has
// come since it was to be told, or it has to stay.
func (f *flow) park() bool {
	if f.state.CompareAndSwap(flowRuns, flowParked) {
		return true
	}
	f.state.CompareAndSwap(flowCame, flowRuns)
	return false
}

// come is called when there is something to read.
func (f *flow) come() {
	for {
		switch s := f.state.Load(); s {
		case flowParked:
			if f.state.CompareAndSwap(s, flowRuns) {
				go f.tunnel.run(f)
				return
			}
		case flowRuns:
			if f.state.CompareAndSwap(s, flowCame) {
				return
			}
		default:
			return
		}
	}
}

// stay has the flow run on to its end: what it waits for may have ended without its source being told.
func (f *flow) stay() {
	if f.state.Swap(flowStays) == flowParked {
		go f.tunnel.run(f)
	}
}

// stream moves to the end, and says so. It reports false where the flow was parked before.
func (f *flow) stream() bool {
	err := f.write(f.first)
	if f.first = nil; err == nil {
		if err = f.move(); errors.Is(err, errParked) {
			return false
		}
	}
	endFlow(f.dst, f.src, err)
	return true
}

// errParked says that a flow goes on elsewhere.
var errParked = errors.New("parked")

// endFlow ends one direction: the other side is told, where that can be; after an error, or where it cannot, both directions end.
// Where one side has reset its connection the other's is reset too: a tunnel has no other way to say that what came is not the
// whole.
func endFlow(dst io.Closer, src io.Closer, err error) {
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		return
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		resetAtClose(dst)
		resetAtClose(src)
	}
	_ = dst.Close()
	_ = src.Close()
}

func (f *flow) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := f.dst.Write(b)
	f.passed(n)
	return err
}

func (f *flow) passed(n int) {
	if f.count != nil && n > 0 {
		f.count(n)
	}
}

const (
	idleBuffer = 2 << 10  // what a direction holds that has to read to know whether there is something
	flowBuffer = 32 << 10 // what one takes that has more to move than that
)

var flowBuffers = sync.Pool{New: func() any { return new([flowBuffer]byte) }}

// copy moves by reading and writing: with a small buffer while little comes, with a large one while much does.
func (f *flow) copy() error {
	small := make([]byte, idleBuffer)
	for {
		n, err := f.src.Read(small)
		if werr := f.write(small[:n]); werr != nil {
			return werr
		}
		if err == nil && n == len(small) {
			err = f.copyMuch()
		}
		if err != nil {
			return ended(err)
		}
	}
}

// copyMuch is copy until a read brings little again.
func (f *flow) copyMuch() error {
	large := flowBuffers.Get().(*[flowBuffer]byte)
	defer flowBuffers.Put(large)
	for {
		n, err := f.src.Read(large[:])
		if werr := f.write(large[:n]); werr != nil {
			return werr
		}
		if err != nil || n < idleBuffer {
			return err
		}
	}
}

// ended makes nothing of the end that a sender has announced.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
