package transport

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// An upload is a request body that is sent in a goroutine of its own, while the exchange waits for an answer, which may
// come early.
type upload struct {
	conn   *http1Conn
	body   io.ReadCloser
	length int64 // -1 for a chunked body
	whole  []byte
	s      sending // what the goroutine needs of it: the request, the hooks, the memory of whole

	goAhead chan bool // whether to send after an Expect, nil for at once
	closing sync.Once // of body

	mu       sync.Mutex // guards what follows
	ended    bool       // the goroutine has
	complete bool       // all was sent
	over     bool       // the answer was read, or given up
	settled  bool       // the connection is somebody else's
	err      error      // of the program
	late     *time.Timer
}

const (
	// pieceSize is how much of a body is read at a time.
	pieceSize = 32 << 10
	// continueAfter is how long an endpoint may take to ask for the body.
	continueAfter = time.Second
	// lastWrite is how long an endpoint that has answered to the end may take to take the rest of the request.
	lastWrite = 50 * time.Millisecond
)

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// startUpload sends the body of s, whose head was sent.
func startUpload(c *http1Conn, s *sending) *upload {
	u := &upload{conn: c, body: s.body, length: s.length, whole: s.whole, s: *s}
	if s.expects {
		u.goAhead = make(chan bool, 1)
		if s.trace != nil && s.trace.Wait100Continue != nil {
			s.trace.Wait100Continue()
		}
	}
	go u.run()
	return u
}

// proceed says whether the body is wanted.
func (u *upload) proceed(yes bool) {
	if u.goAhead == nil {
		return
	}
	select {
	case u.goAhead <- yes:
	default:
	}
}

// run is the goroutine.
func (u *upload) run() {
	err := u.send()
	u.closeBody()
	u.s.release()
	u.s.wroteRequest(err)
	u.mu.Lock()
	u.ended, u.complete = true, err == nil
	if u.err = ofProgram(err); u.err != nil && !u.over {
		u.conn.interrupt() // nobody waits for an answer to that
	}
	settle, lost := u.over && !u.settled, u.settled
	u.settled = u.settled || settle
	if u.late != nil {
		u.late.Stop()
	}
	u.mu.Unlock()
	switch {
	case settle:
		u.conn.settle(err == nil)
	case lost:
		u.conn.w.Release()
	}
}

// ofProgram gives the error where it is not the connection's.
func ofProgram(err error) error {
	switch err := err.(type) { //nolint:errorlint // these are not wrapped
	case *bodyError, *exchangeError:
		return err
	}
	if err != nil && malformedMessage(err) { // a trailer
		return &exchangeError{call.Outcome{Reason: call.ReasonInvalidRequest}, err}
	}
	return nil
}

// send sends the body.
func (u *upload) send() error {
	if u.goAhead != nil && !u.wanted() {
		return errUnwanted
	}
	w := &u.conn.w
	if u.whole != nil {
		return w.Finish(u.whole)
	}
	p := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(p)
	left := u.length
	for left != 0 {
		b := p[:]
		if left > 0 {
			b = p[:min(left+1, pieceSize)]
		}
		n, err := u.body.Read(b)
		if left > 0 {
			if left -= int64(n); left == 0 && err == nil {
				left, err = u.surplus()
			}
		}
		switch { // before the last of it is sent: then the endpoint could answer, and it would be chance who is heard first
		case u.length > 0 && left < 0:
			return wrongLength(u.length, u.length-left)
		case err != nil && !errors.Is(err, io.EOF):
			return asBodyError(err)
		case err != nil && left > 0:
			return wrongLength(u.length, u.length-left)
		}
		if n > 0 {
			if _, err := w.Write(b[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			break
		}
	}
	if u.length < 0 {
		writeTrailers(w, u.s.req)
	}
	return w.Finish(nil)
}

// surplus finds out, as net/http does, whether a body that was read to its length has more, which is -1.
func (u *upload) surplus() (left int64, err error) {
	var more [1]byte
	n, err := io.ReadFull(u.body, more[:])
	return -int64(n), err
}

// errUnwanted is the end of a body that the endpoint did not ask for.
var errUnwanted = http.ErrBodyNotAllowed

// wanted waits until the endpoint asks for the body, or for some time.
func (u *upload) wanted() bool {
	t := time.NewTimer(continueAfter)
	defer t.Stop()
	select {
	case yes := <-u.goAhead:
		return yes
	case <-t.C:
		return true
	}
}

// failed gives the program's own error, nil where there is none.
func (u *upload) failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// answered says that the exchange has ended: alive where its answer was read to the end. What is not sent by then has
// little time left.
func (u *upload) answered(alive bool) {
	u.proceed(false)
	u.mu.Lock()
	u.over = true
	ended, complete := u.ended, u.complete
	switch {
	case ended:
		u.settled = true
	case alive:
		u.late = time.AfterFunc(lastWrite, u.giveUp)
	default:
		u.settled = true
	}
	u.mu.Unlock()
	switch {
	case ended:
		u.conn.settle(alive && complete)
	case !alive:
		u.cut()
	}
}

func (u *upload) giveUp() {
	u.mu.Lock()
	cut := !u.settled
	u.settled = true
	u.mu.Unlock()
	if cut {
		u.cut()
	}
}

// cut ends the sending. The goroutine may still wait for the program's body, and is not waited for.
func (u *upload) cut() {
	_ = u.conn.conn.Close()
	u.closeBody()
}

func (u *upload) closeBody() { u.closing.Do(func() { _ = u.body.Close() }) }
