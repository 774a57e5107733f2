package faults_test

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
)

// identityField names the request, in it and in its answer.
const identityField = "X-Id"

// An entry is one request as one upstream saw it.
type entry struct {
	host    int
	id      uint64
	method  string
	attempt int  // x-envoy-attempt-count, 1 where there is none
	copied  bool // for a mirror
	met     bool // it met the fault

	bytes int64
	sum   [sha256.Size]byte
	whole bool // the whole body came
}

// A ledger is what all upstreams of a run saw, in order. An entry is made before anything is done about the request.
type ledger struct {
	mu      sync.Mutex
	entries []*entry
	garbage []string // what was no request
	met     int      // how often the fault struck, a connection without a request too
	retries int      // attempts beyond the first that are under way
	peak    int      // of retries
}

func (l *ledger) open(u *upstream, req *http.Request) *entry {
	id, err := strconv.ParseUint(req.Header.Get(identityField), 10, 64)
	if err != nil {
		l.refuse("a request without identity: " + req.Method + " " + req.RequestURI)
	}
	e := &entry{host: u.host, id: id, method: req.Method, attempt: 1, copied: u.mirror}
	if n, err := strconv.Atoi(req.Header.Get("X-Envoy-Attempt-Count")); err == nil {
		e.attempt = n
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	if e.attempt > 1 {
		l.retries++
		l.peak = max(l.peak, l.retries)
	}
	return e
}

// received writes down what came of the body.
func (l *ledger) received(e *entry, n int64, h hash.Hash, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.bytes, e.whole = n, err == nil
	h.Sum(e.sum[:0])
}

// answering is said before an answer begins: whoever has it may already have decided on the next attempt.
func (l *ledger) answering(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.attempt > 1 {
		l.retries--
	}
}

func (l *ledger) strike(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.met++
	if e != nil {
		e.met = true
	}
}

func (l *ledger) refuse(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.garbage = append(l.garbage, what)
}

// reached says how many requests have reached the upstream.
func (l *ledger) reached(host int) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.host == host {
			n++
		}
	}
	return n
}

// What is said about a request follows from its identity alone.

// methodOf makes three of ten requests POST.
func methodOf(id uint64) string {
	if id%10 < 7 {
		return http.MethodGet
	}
	return http.MethodPost
}

// sizeOf gives the length of a POST's body: 5 % of them are long, the others of any length up to 64 KiB.
func sizeOf(id uint64) int64 {
	switch {
	case methodOf(id) == http.MethodGet:
		return 0
	case id/10%20 == 7:
		return longBody
	}
	return int64(rand.New(rand.NewPCG(id, 1)).IntN(64<<10 + 1))
}

const longBody = 1 << 20

// answerOf gives the length of the answer's body.
func answerOf(id uint64) int64 { return int64(rand.New(rand.NewPCG(id, 2)).IntN(16 << 10)) }

// Two streams of bytes belong to each request.
const (
	questions = iota
	answers
)

// stream gives the first n bytes of one of them.
func stream(id uint64, of byte, n int64) io.Reader {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], id)
	seed[8] = of
	return io.LimitReader(rand.NewChaCha8(seed), n)
}

// sumOf hashes all that the reader gives.
func sumOf(r io.Reader) (n int64, h hash.Hash, err error) {
	h = sha256.New()
	n, err = io.Copy(h, r)
	return n, h, err
}

// expected gives the hash of a stream.
func expected(id uint64, of byte, n int64) (sum [sha256.Size]byte) {
	_, h, _ := sumOf(stream(id, of, n))
	h.Sum(sum[:0])
	return sum
}
