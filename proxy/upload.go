package proxy

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

const (
	// pieceSize is how much of a body is read at a time. Larger pieces measured no faster, and who stops taking them keeps one.
	pieceSize = 32 << 10
	// spliceFrom is how much must be left of a body for the kernel to be asked to move it.
	spliceFrom = 32 << 10
	// lastWrite is how long an endpoint that has answered may take to take the last piece of the request.
	lastWrite = 20 * time.Millisecond
)

// An upload is a request's body on its way to the endpoint. One that has come whole with its head goes with the head;
// another is read in a goroutine of its own, while the exchange waits for an answer, which may come early.
type upload struct {
	whole   []byte // the body, where all of it was there at once
	running bool   // the goroutine is

	complete atomic.Bool // all of it was read from the client

	mu     sync.Mutex // guards what follows
	kept   []byte     // its first bytes, as long as they are all that was read
	lost   bool       // more was read than was kept
	halted bool       // another attempt is to send what is kept, and the rest

	// What follows belongs to the goroutine while that runs.
	keep   bool  // for another attempt
	passed int64 // bytes read
	client error // why the client's body ended too soon
	sent   bool  // all of it was sent
	splice splicer
}

func (u *upload) reset() {
	u.whole, u.running, u.keep, u.passed, u.lost, u.halted, u.client, u.sent = nil, false, false, 0, false, false, nil, false
	u.complete.Store(false)
	if cap(u.kept) > transport.ReplayLimit {
		u.kept = nil
	}
	u.kept = u.kept[:0]
}

// prepare takes the body in where that needs no waiting. retries says that there may be another attempt.
func (u *upload) prepare(q *http1.Request, retries bool) error {
	b := &q.Body
	if b.Done() {
		u.complete.Store(true)
		return nil
	}
	if u.passed > 0 { // its beginning was read already (askedWire.Body)
		u.keep = retries && u.passed <= transport.ReplayLimit
		return nil
	}
	if n := b.Remaining(); n >= 0 && n <= int64(b.Buffered()) || n < 0 && b.Buffered() > 0 && !q.ExpectContinue() {
		piece, err := b.Next(pieceSize)
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case b.Done():
			u.whole = piece
			u.complete.Store(true)
			return nil
		}
		// The beginning of a chunked body.
		u.keep = retries
		u.kept = append(u.kept, piece...)
		u.passed = int64(len(piece))
		return nil
	}
	u.keep = retries && b.Length() <= transport.ReplayLimit
	return nil
}

// atOnce reports that the body came whole with its head, or is none, and goes on like that.
func (u *upload) atOnce() bool { return u.complete.Load() && !u.running && u.passed == 0 }

// again asks whether there is another attempt, where the body could be sent once more. If so, no more of it is lost.
func (u *upload) again(next func(replayable bool) bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.halted = next(!u.lost)
	return u.halted
}

// start sends a body that was not whole at the beginning: what was kept, and what comes.
func (x *exchange) startUpload() {
	u := &x.upload
	if x.s.uploaded == nil {
		x.s.uploaded = make(chan struct{}, 1)
	}
	u.running, u.halted = true, false
	go x.upload.run(x)
}

// run is the goroutine.
func (u *upload) run(x *exchange) {
	defer func() { x.s.uploaded <- struct{}{} }()
	if len(u.kept) > 0 {
		if _, err := x.uw.Write(u.kept); err != nil {
			return
		}
		if !u.keep {
			u.lose()
		}
	}
	b := &x.q.Body
	for {
		if n := b.Direct(); n >= spliceFrom && x.uw.Direct() > 0 && !u.keep {
			u.lose()
			switch u.splice.move(x.s, ofRequest, x.uw.Direct, b.Took, x.uw.Took, x.up.NetConn(), x.s.nc, n) {
			case spliceSource:
				u.client = io.ErrUnexpectedEOF
				_ = x.up.NetConn().SetDeadline(past)
				return
			case spliceTarget:
				return
			case spliceDone:
			}
		}
		piece, err := b.Next(pieceSize)
		x.s.moved()
		if err != nil && !errors.Is(err, io.EOF) {
			u.client = err
			_ = x.up.NetConn().SetDeadline(past) // nobody waits for an answer to that
			return
		}
		if b.Done() {
			u.complete.Store(true)
		}
		if !u.note(piece) {
			return
		}
		if b.Done() {
			x.lateFields(&x.uw, b.Trailer())
			u.sent = x.uw.Finish(piece) == nil
			x.uw.Release() // however long the answer takes
			return
		}
		if _, err := x.uw.Write(piece); err != nil {
			return
		}
		x.s.moved()
	}
}

func (u *upload) lose() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lost = true
}

// note keeps a piece for another attempt, within transport.ReplayLimit. It reports false where another attempt has been
// decided on, which then needs the piece at any cost.
func (u *upload) note(piece []byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.passed += int64(len(piece))
	switch {
	case u.halted:
		u.kept = append(u.kept, piece...)
		return false
	case u.lost || !u.keep || u.passed > transport.ReplayLimit:
		u.lost = true
	default:
		u.kept = append(u.kept, piece...)
	}
	return true
}

// stopUpload ends the goroutine. The connection to the endpoint is given up where the body is not complete.
func (x *exchange) stopUpload() {
	u := &x.upload
	if !u.running {
		return
	}
	u.running = false
	if u.complete.Load() {
		select {
		case <-x.s.uploaded:
			return
		case <-time.After(lastWrite):
		}
	} else {
		select {
		case <-x.s.uploaded:
			return
		default:
		}
	}
	if x.up != nil {
		_ = x.up.NetConn().SetDeadline(past)
	}
	if !u.complete.Load() {
		x.s.stopReading()
	}
	<-x.s.uploaded
	if timedOut(u.client) {
		u.client = nil
	}
	x.s.readAgain()
}
