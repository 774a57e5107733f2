package transport

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// ReplayLimit is how much of a request body is kept for another attempt, in bytes. A longer body streams
// on and only loses its retry.
const ReplayLimit = 64 << 10

// A replay lets several attempts read one request body that can be read only once. There is one cursor
// into the source: what it gives is kept, and each attempt reads what is kept before it reads on. Nothing
// is read twice from the source and nothing reaches one attempt twice, even while an abandoned attempt's
// last read is still under way.
type replay struct {
	source io.ReadCloser
	memory bool // the source is in memory
	limit  int

	reading sync.Mutex // one reader of the source at a time; guards what follows
	kept    []byte
	read    int       // bytes the source has given
	frames  *messages // in them, nil where nobody counts
	err     error     // what ended the source

	mu        sync.Mutex // guards what follows; never held while reading
	lost      bool       // more was read than is kept
	committed bool       // no further attempt will be made
	open      *replayBody
	closed    bool // source is closed
}

var errReplayLost = errors.New("request body was longer than can be sent again")

func newReplay(req *http.Request) *replay {
	r := &replay{source: req.Body, memory: inMemory(req.Body), limit: ReplayLimit}
	if req.ContentLength > ReplayLimit {
		r.limit = 0 // it would not fit: keep nothing, retry only while nothing has been read
	}
	return r
}

// body gives the body of the next attempt, from the first byte.
func (r *replay) body() io.ReadCloser {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != nil {
		r.open.closed = true
	}
	r.open = &replayBody{replay: r}
	return r.open
}

// again reports whether another attempt could read the body from its first byte.
func (r *replay) again() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.lost
}

// commit says that no further attempt will be made. The source is closed now, or when the attempt that
// reads it closes its body.
func (r *replay) commit() {
	r.mu.Lock()
	r.committed = true
	closeNow := (r.open == nil || r.open.closed) && !r.closed
	r.closed = r.closed || closeNow
	r.mu.Unlock()
	if closeNow {
		_ = r.source.Close()
	}
}

// abandon commits and closes the source at once, for a call that ends without an answer.
func (r *replay) abandon() {
	r.mu.Lock()
	r.committed = true
	if r.open != nil {
		r.open.closed = true
	}
	was := r.closed
	r.closed = true
	r.mu.Unlock()
	if !was {
		_ = r.source.Close()
	}
}

// memorySize is that of the source, with what it has given.
func (r *replay) memorySize() (n int64, ok bool) {
	if !r.memory {
		return 0, false // and whoever reads it may take long
	}
	r.reading.Lock()
	defer r.reading.Unlock()
	n, ok = memorySize(r.source)
	return n + int64(r.read), ok
}

// replayBody is one attempt's view.
type replayBody struct {
	replay *replay
	off    int
	closed bool // guarded by replay.mu
}

func (b *replayBody) Read(p []byte) (int, error) {
	r := b.replay
	r.reading.Lock()
	defer r.reading.Unlock()
	r.mu.Lock()
	closed := b.closed
	r.mu.Unlock()
	switch {
	case closed:
		return 0, http.ErrBodyReadAfterClose
	case b.off < len(r.kept):
		n := copy(p, r.kept[b.off:])
		b.off += n
		return n, nil
	case b.off < r.read:
		return 0, errReplayLost
	case r.err != nil:
		return 0, r.err
	}
	n, err := r.source.Read(p)
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	r.err = err
	r.keep(b, p[:n])
	b.off += n
	return n, err
}

// keep stores what the source gave b, as far as another attempt may want it. r.reading is held.
func (r *replay) keep(b *replayBody, p []byte) {
	if len(p) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Where another attempt has begun while this read was under way, it needs these bytes at any cost.
	overtaken := r.open != b
	if !r.lost && (overtaken || !r.committed && r.read+len(p) <= r.limit) {
		r.kept = append(r.kept, p...)
	} else {
		r.kept = nil
		r.lost = true
	}
	r.read += len(p)
	if r.frames != nil {
		r.frames.add(p)
	}
}

// length says how much of the body has been read, in bytes and in messages of an RPC.
func (r *replay) length() (bytes, messages uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frames != nil {
		messages = r.frames.count
	}
	return uint64(r.read), messages
}

func (b *replayBody) Close() error {
	r := b.replay
	r.mu.Lock()
	b.closed = true
	closeNow := r.committed && r.open == b && !r.closed
	r.closed = r.closed || closeNow
	r.mu.Unlock()
	if closeNow {
		return r.source.Close()
	}
	return nil
}
