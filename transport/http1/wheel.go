package http1

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Wheel ends what takes too long, coarsely. One goroutine looks at all deadlines every tick while there are any; to
// arm one costs an atomic store and reads no clock. Safe for concurrent use.
//
// Time is counted in ticks that the goroutine saw: where the machine keeps it from running, deadlines come later and
// never sooner.
type Wheel struct {
	tick time.Duration
	now  atomic.Uint32 // ticks seen; starts at 1
	stop chan struct{}
	wake chan struct{} // something was added to an empty wheel
	done chan struct{}

	mu     sync.Mutex // guards what follows; Arm and Disarm do not take it
	blocks []*block
	spare  []place // places to be used again
	used   int     // places handed out, spare ones among them
	live   int
	closed bool
}

// A block holds deadlines side by side, so that the goroutine reads memory in order.
type block struct {
	at      [blockSize]atomic.Uint32 // the tick at which it expires, 0 when not armed
	expired [blockSize]func()
}

const blockSize = 256

// A Deadline is one entry of a [Wheel]. Safe for concurrent use.
type Deadline struct {
	wheel *Wheel
	at    *atomic.Uint32
	place place // the zero place once it is removed
}

type place struct {
	block *block
	i     int
}

// NewWheel starts a wheel. A tick of 0 is 100 ms. It must be closed.
func NewWheel(tick time.Duration) *Wheel {
	if tick <= 0 {
		tick = 100 * time.Millisecond
	}
	w := &Wheel{tick: tick, stop: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{})}
	w.now.Store(1)
	go w.run()
	return w
}

// Close stops the wheel and waits for a function that it runs. Deadlines do not expire any more. It must not be called
// by such a function.
func (w *Wheel) Close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.stop)
	}
	w.mu.Unlock()
	<-w.done
}

// Add registers a deadline that is not armed, once for each connection. expired is called in the wheel's goroutine, where
// it must not block.
func (w *Wheel) Add(expired func()) *Deadline {
	w.mu.Lock()
	defer w.mu.Unlock()
	var at place
	if n := len(w.spare); n > 0 {
		at, w.spare = w.spare[n-1], w.spare[:n-1]
	} else {
		if w.used == len(w.blocks)*blockSize {
			w.blocks = append(w.blocks, new(block))
		}
		at = place{w.blocks[w.used/blockSize], w.used % blockSize}
		w.used++
	}
	at.block.expired[at.i] = expired
	if w.live++; w.live == 1 {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return &Deadline{wheel: w, at: &at.block.at[at.i], place: at}
}

// AddConn registers a deadline that, when it expires, makes reads and writes of nc fail with os.ErrDeadlineExceeded, those
// that are under way and those that come.
func (w *Wheel) AddConn(nc net.Conn) *Deadline {
	past := time.Unix(1, 0)
	return w.Add(func() { _ = nc.SetDeadline(past) })
}

// Arm sets the deadline to d from now in place of what was set. It expires not before that, and no more than two ticks
// after it.
func (d *Deadline) Arm(after time.Duration) {
	ticks := (max(after, 0) + d.wheel.tick - 1) / d.wheel.tick
	d.at.Store(d.wheel.now.Load() + uint32(min(ticks, 1<<30)) + 1)
}

// Disarm takes the deadline back. It reports false where there was none: not armed, or expired, and then expired has run
// or is about to.
func (d *Deadline) Disarm() bool { return d.at.Swap(0) != 0 }

// Remove takes the deadline off its wheel; it must not be used after that. Where it has just expired, expired may still run.
func (d *Deadline) Remove() {
	w := d.wheel
	w.mu.Lock()
	defer w.mu.Unlock()
	at := d.place
	if at.block == nil {
		return
	}
	d.place = place{}
	at.block.at[at.i].Store(0)
	at.block.expired[at.i] = nil
	w.spare = append(w.spare, at)
	w.live--
}

func (w *Wheel) run() {
	defer close(w.done)
	for {
		select {
		case <-w.wake:
		case <-w.stop:
			return
		}
		if !w.turn() {
			return
		}
	}
}

// turn ticks until nothing is registered. It reports false when the wheel is closed.
func (w *Wheel) turn() bool {
	t := time.NewTicker(w.tick)
	defer t.Stop()
	var due []func()
	for {
		select {
		case <-t.C:
		case <-w.stop:
			return false
		}
		var empty bool
		due, empty = w.expire(due[:0])
		for i, expired := range due {
			expired()
			due[i] = nil
		}
		if empty {
			return true
		}
	}
}

// expire moves on by one tick and collects what is due.
func (w *Wheel) expire(due []func()) ([]func(), bool) {
	now := w.now.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.used {
		b, i := w.blocks[i/blockSize], i%blockSize
		at := b.at[i].Load()
		if at != 0 && now >= at && b.at[i].CompareAndSwap(at, 0) && b.expired[i] != nil {
			due = append(due, b.expired[i])
		}
	}
	return due, w.live == 0
}
