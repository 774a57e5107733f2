package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// each runs f with every subject, side by side, by the documents that config gives.
func each(t *testing.T, config func(r *run) string, f func(r *run)) {
	together(t)
	rate := pace(t)
	var wg sync.WaitGroup
	for i := range subjects {
		r := newRun(t, subjects[i].name)
		r.rate = rate
		subjects[i].start(t, r, config(r))
		wg.Go(func() {
			f(r)
			r.end()
		})
	}
	wg.Wait()
}

// by is the configuration of one service on all upstreams.
func by(p policy) func(r *run) string {
	return func(r *run) string { return r.services("ledger", p, r.upstreams...) }
}

// end stops the upstreams and joins the books, once.
func (r *run) end() {
	if r.over {
		return
	}
	r.over = true
	for _, u := range r.upstreams {
		u.stop()
	}
	r.join()
	r.tb.Logf("%s: %d requests, %d left out, at most %d in flight; %d at the upstreams, %d attempts; the fault struck %d times",
		r.name, len(r.told), r.left, r.peak, len(r.book.entries), r.tried.Load(), r.book.met)
}

// touchy ejects after one error, for longer than any test takes.
func touchy(route string) policy {
	return policy{traffic: "outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 1h, maxEjectionPercent: 100}", route: route}
}

// served judges that everything was answered for which the client itself did not see to that it is not.
func (r *run) served() {
	for _, t := range r.told {
		if !t.excuse && t.failed() {
			r.tb.Errorf("%s: %s %d: status %d, %v %s", r.name, methodOf(t.id), t.id, t.status, t.err, r.of(t.id))
		}
	}
}

// TestClientsEjectNobody is D-025: clients that go away, break off what they send, or send it slowly, cost others nothing,
// and no upstream is blamed.
func TestClientsEjectNobody(t *testing.T) {
	d := length(t)
	each(t, by(touchy("retries: {attempts: 0}")), func(r *run) {
		events := []event{{0.9, func() {
			for range 20 {
				r.sendRaw()
			}
		}}}
		r.load(d, misbehave, events...)
		r.served()
		nobodyEjected(r)
	})
}

// misbehave makes every second request the client's own failure.
func misbehave(ctx context.Context, req *http.Request) (context.Context, bool) {
	switch rand.N(8) {
	case 0: // gone at any moment
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(rand.N(5*time.Millisecond), cancel)
		return ctx, true
	case 1:
		if req.Body != nil {
			req.Body = io.NopCloser(io.MultiReader(io.LimitReader(req.Body, req.ContentLength/2), brokenReader{}))
			return ctx, true
		}
	case 2: // in the smallest pieces
		if req.Body != nil {
			req.Body = io.NopCloser(dribble{req.Body})
		}
	case 3: // shorter than announced
		if req.Body != nil {
			req.Body = io.NopCloser(io.LimitReader(req.Body, req.ContentLength/2))
			return ctx, true
		}
	}
	return ctx, false
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("the file is gone") }

type dribble struct{ r io.Reader }

func (d dribble) Read(p []byte) (int, error) { return d.r.Read(p[:min(len(p), 100)]) }

// sendRaw sends a sidecar what no HTTP client would, and goes.
func (r *run) sendRaw() {
	if r.sidecar == nil {
		return
	}
	c, err := net.Dial("tcp", r.sidecar.OutboundAddr().String())
	if err != nil {
		r.tb.Error(err)
		return
	}
	r.mu.Lock()
	t := &told{id: r.next, excuse: true, err: io.EOF}
	for methodOf(t.id) != http.MethodPost {
		t.id++
	}
	r.next = t.id + 1
	r.told = append(r.told, t)
	r.mu.Unlock()
	body := []string{"5\r\nhello\r\nnonsense\r\n", "5\r\nhel", "ffffffffffffffffff\r\n", "0\r\nX: y"}[rand.N(4)]
	_, _ = fmt.Fprintf(c, "POST http://ledger/ HTTP/1.1\r\nHost: ledger\r\n%s: %d\r\nTransfer-Encoding: chunked\r\n\r\n%s", identityField, t.id, body)
	if rand.N(2) == 0 {
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
		return
	}
	reset(c)
}

// TestBudget is D-026 by the exact count: a hundred requests are at the upstreams when all of them fail; of them no more
// than 20 % are repeated as long as none of the repetitions has been answered.
func TestBudget(t *testing.T) {
	const n = 100
	p := budgeted()
	p.route = strings.Replace(p.route, "attempts: 2", "attempts: 1", 1)
	each(t, by(p), func(r *run) {
		var mu sync.Mutex
		arrived, all := 0, make(chan struct{})
		repeats := make(chan struct{})
		fail := breakage{answer: func(x *exchange) {
			if x.entry.attempt > 1 {
				<-repeats
			} else {
				mu.Lock()
				if arrived++; arrived == n {
					close(all)
				}
				mu.Unlock()
				<-all
			}
			fails503(x)
		}}
		for _, u := range r.upstreams {
			u.inject(fail)
		}
		for range n {
			r.spawn(nil)
		}
		// All calls but those that are repeated end now.
		end := time.Now().Add(patience)
		for time.Now().Before(end) {
			r.mu.Lock()
			left := r.inFlight
			r.mu.Unlock()
			r.book.mu.Lock()
			repeated := r.book.retries
			r.book.mu.Unlock()
			if left == repeated {
				break
			}
			<-time.After(time.Millisecond)
		}
		close(repeats)
		r.wg.Wait()
		if attempts := len(r.book.entries); attempts > n*12/10 || attempts == n {
			r.tb.Errorf("%s: %d attempts for %d requests, want at most 1.2 times as many", r.name, attempts, n)
		}
	})
}

// TestMirror is D-028: what becomes of the copies, and be it that every one is reset, is nothing to the request.
func TestMirror(t *testing.T) {
	each(t, func(r *run) string {
		r.upstreams[2].mirror = true
		p := touchy("retries: {attempts: 2, retryOn: '5xx,reset'}\n    mirror: {host: copies}")
		return r.services("ledger", p, r.upstreams[:2]...) + r.services("copies", touchy("retries: {attempts: 0}"), r.upstreams[2])
	}, func(r *run) {
		r.load(length(t), nil, event{0.5, func() { r.upstreams[2].inject(breakage{answer: (*exchange).reset}) }})
		r.end()
		r.served()
		copies := make(map[uint64]int)
		for _, e := range r.book.entries {
			if e.copied {
				copies[e.id]++
			}
		}
		for id, n := range copies {
			if n > 1 && methodOf(id) == http.MethodPost {
				r.tb.Errorf("%s: %d copies of request %d", r.name, n, id)
			}
		}
		if len(copies) == 0 {
			r.tb.Errorf("%s: no copies", r.name)
		}
	})
}

// TestChurn is D-031: endpoints come and go under load, and no request is lost over it.
func TestChurn(t *testing.T) {
	each(t, by(touchy("retries: {attempts: 0}")), func(r *run) {
		var events []event
		for i := range 20 {
			events = append(events, event{float64(i) / 20, func() {
				two := []*upstream{r.upstreams[i%3], r.upstreams[(i+1)%3]}
				if err := r.mesh.Apply(r.tb.Context(), []byte(r.services("ledger", touchy("retries: {attempts: 0}"), two...))); err != nil {
					r.tb.Errorf("%s: %v", r.name, err)
				}
			}})
		}
		r.load(length(t), nil, events...)
		r.served()
		nobodyEjected(r)
	})
}

// TestPorts is D-033: connections are kept, so that requests do not take a port each; and where this machine has none left,
// that is not an upstream's fault.
func TestPorts(t *testing.T) {
	each(t, by(touchy("retries: {attempts: 2, retryOn: connect-failure}")), func(r *run) {
		r.load(length(t), nil)
		r.served()
		opened := 0
		for _, u := range r.upstreams {
			u.mu.Lock()
			opened += u.opened
			u.mu.Unlock()
		}
		if opened > 3*r.peak {
			r.tb.Errorf("%s: %d connections for %d requests, of which %d at a time", r.name, opened, len(r.told), r.peak)
		}
	})
	t.Run("none left", func(t *testing.T) {
		each(t, by(touchy("retries: {attempts: 2, retryOn: connect-failure}")), func(r *run) {
			for _, u := range r.upstreams {
				u.inject(breakage{dial: fails(syscall.EADDRNOTAVAIL)})
			}
			for range 20 {
				if t := r.one(); !t.failed() {
					r.tb.Errorf("%s: request %d is answered", r.name, t.id)
				}
			}
			nobodyEjected(r)
			for _, u := range r.upstreams {
				if err := u.lift(); err != nil {
					r.tb.Error(err)
				}
			}
			r.untilServed()
		})
	})
}

// TestEverything is D-037: again and again something else breaks, chosen by a seed that is told. Of the requests some fail; none
// that is not idempotent is sent twice, and no byte is wrong.
func TestEverything(t *testing.T) {
	d := length(t)
	p := policy{
		traffic: "connectionPool: {tcp: {connectTimeout: 1s}}, outlierDetection: {interval: 100ms, baseEjectionTime: 500ms, maxEjectionPercent: 66}",
		route:   "retries: {attempts: 2, retryOn: 'connect-failure,refused-stream,reset,5xx', perTryTimeout: 1s}\n    timeout: 5s",
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	each(t, by(p), func(r *run) {
		src := rand.New(rand.NewPCG(seed, 37))
		var events []event
		table := faults()
		changes := max(10, int(d/(500*time.Millisecond)))
		for i := range changes {
			events = append(events, event{float64(i) / float64(changes), func() {
				u := r.upstreams[src.IntN(len(r.upstreams))]
				if err := u.lift(); err != nil {
					r.tb.Errorf("%s: %v", r.name, err)
				}
				if i < changes-3 && src.IntN(4) > 0 {
					u.inject(table[src.IntN(len(table))].breakage)
				}
			}})
		}
		events = append(events, event{1, func() {
			for _, u := range r.upstreams {
				if err := u.lift(); err != nil {
					r.tb.Errorf("%s: %v", r.name, err)
				}
			}
		}})
		r.load(d, nil, events...)
		r.untilServed()
	})
}

// untilServed makes requests until a hundred in a row are answered.
func (r *run) untilServed() {
	for end, served := time.Now().Add(patience), 0; served < 100; {
		if time.Now().After(end) {
			r.tb.Errorf("%s: nothing is broken any more, and requests fail", r.name)
			return
		}
		if served++; r.one().failed() {
			served = 0
			<-time.After(time.Millisecond)
		}
	}
}
