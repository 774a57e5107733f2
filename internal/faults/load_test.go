package faults_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	fullRate    = 1000 // requests a second, for each subject
	maxInFlight = 512  // what is due beyond that is left out, and told: the machine is too slow for the rate
	patience    = 2 * time.Minute
)

// A told is one request as the client saw it.
type told struct {
	id     uint64
	status int
	err    error        // no answer, or none to its end
	excuse bool         // the client itself saw to it that it fails
	sent   atomic.Int32 // how often the client of a sidecar sent it
}

func (t *told) failed() bool { return t.err != nil || t.status >= 500 }

// A clientBook is what the client knows.
type clientBook struct {
	mu       sync.Mutex
	told     []*told
	foreign  []string // what was answered and must never have been
	inFlight int
	peak     int // of inFlight
	left     int // requests left out
	next     uint64
	wg       sync.WaitGroup
}

// A manner is how the client behaves with one request; nil is well.
type manner func(ctx context.Context, req *http.Request) (context.Context, bool)

// pace says how many requests a second each subject is sent: fullRate, and where the machine is too slow half of what it takes.
func pace(tb testing.TB) int {
	if !atLength() {
		return fullRate // for too short a time to matter
	}
	const workers, requests = 8, 20
	begin := time.Now()
	var all sync.WaitGroup
	for i := range subjects {
		r := newRun(tb, subjects[i].name)
		subjects[i].start(tb, r, r.services("ledger", policy{}, r.upstreams...))
		for range workers {
			all.Go(func() {
				for range requests {
					r.mu.Lock()
					t := &told{id: r.next}
					r.next++
					r.mu.Unlock()
					r.exchange(t, nil)
				}
			})
		}
	}
	all.Wait()
	takes := int(workers * requests * time.Second / time.Since(begin))
	if takes/2 >= fullRate {
		return fullRate
	}
	tb.Logf("the machine takes %d requests a second for each subject, so the load is half of that", takes)
	return max(takes/2, 1)
}

// load sends requests for so long, at the steady rate of r. Each of events is called once that part of them has been sent,
// in order.
func (r *run) load(d time.Duration, behave manner, events ...event) {
	n := int(d * time.Duration(r.rate) / time.Second)
	begin := time.Now()
	for i := range n {
		for len(events) > 0 && float64(i) >= events[0].at*float64(n) {
			events[0].do()
			events = events[1:]
		}
		if wait := time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(r.rate))); wait > 0 {
			<-time.After(wait)
		}
		r.spawn(behave)
	}
	for _, e := range events {
		e.do()
	}
	r.wg.Wait()
}

type event struct {
	at float64
	do func()
}

// spawn begins the next request, and does not wait for it.
func (r *run) spawn(behave manner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inFlight == maxInFlight {
		r.left++
		return
	}
	r.inFlight++
	r.peak = max(r.peak, r.inFlight)
	t := &told{id: r.next}
	r.next++
	r.told = append(r.told, t)
	r.wg.Go(func() {
		r.exchange(t, behave)
		r.mu.Lock()
		r.inFlight--
		r.mu.Unlock()
	})
}

// one makes one request and waits for it.
func (r *run) one() *told {
	r.spawn(nil)
	r.wg.Wait()
	return r.told[len(r.told)-1]
}

func (r *run) exchange(t *told, behave manner) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx, count := r.watch(ctx, t)
	defer count()
	req, err := http.NewRequestWithContext(ctx, methodOf(t.id), "http://ledger/", nil)
	if err != nil {
		t.err = err
		return
	}
	if n := sizeOf(t.id); n > 0 {
		// Not a body that net/http knows how to make again.
		req.Body, req.ContentLength = io.NopCloser(stream(t.id, questions, n)), n
	}
	req.Header.Set(identityField, strconv.FormatUint(t.id, 10))
	if behave != nil {
		ctx, t.excuse = behave(ctx, req)
		req = req.WithContext(ctx)
	}
	resp, err := r.client.RoundTrip(req)
	if err != nil {
		t.err = err
		return
	}
	t.status = resp.StatusCode
	t.err = r.read(t, resp)
}

// read takes the answer and compares it with what it has to be.
func (r *run) read(t *told, resp *http.Response) error {
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if t.status != http.StatusOK {
		return err
	}
	if got := resp.Header.Get(identityField); got != strconv.FormatUint(t.id, 10) {
		r.accuse("request %d got the answer to %q", t.id, got)
	}
	n := answerOf(t.id)
	if err != nil {
		n = min(n, int64(len(body)))
	}
	if int64(len(body)) != n {
		r.accuse("request %d got %d bytes of %d, as if these were all", t.id, len(body), n)
	} else if want := expected(t.id, answers, n); sha256.Sum256(body) != want {
		r.accuse("request %d got %d bytes that are not its own", t.id, n)
	}
	return err
}

func (r *run) accuse(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.foreign = append(r.foreign, fmt.Sprintf(format, args...))
}

// chance is true for such a share of requests, the same at every attempt on one upstream.
func chance(e *entry, share float64) bool {
	return rand.New(rand.NewPCG(e.id, uint64(e.host)+3)).Float64() < share
}

// join compares the books: what no fault excuses. It is called when everything has ended.
func (r *run) join() {
	asked := make(map[uint64]*told, len(r.told))
	for _, t := range r.told {
		asked[t.id] = t
	}
	seen := make(map[uint64]int)
	whole := make(map[uint64]int)
	for _, e := range r.book.entries {
		t := asked[e.id]
		if t == nil || e.method != methodOf(e.id) {
			r.tb.Errorf("%s: upstream %d saw %s %d, which nobody sent", r.name, e.host, e.method, e.id)
			continue
		}
		if e.copied {
			continue
		}
		seen[e.id]++
		if !e.whole {
			continue
		}
		whole[e.id]++
		if n := sizeOf(e.id); e.bytes != n || e.sum != expected(e.id, questions, n) {
			r.tb.Errorf("%s: upstream %d saw request %d with %d bytes that are not its %d", r.name, e.host, e.id, e.bytes, n)
		}
	}
	for _, t := range r.told {
		post := methodOf(t.id) == http.MethodPost
		if n := seen[t.id]; post && n > 1 {
			r.tb.Errorf("%s: POST %d was sent %d times: %+v", r.name, t.id, n, r.of(t.id))
		}
		if n := whole[t.id]; t.status == http.StatusOK && (n == 0 || post && n > 1) {
			r.tb.Errorf("%s: %s %d was answered, and is whole %d times in the ledger", r.name, methodOf(t.id), t.id, n)
		}
	}
	for _, what := range append(r.book.garbage, r.foreign...) {
		r.tb.Errorf("%s: %s", r.name, what)
	}
}

func (r *run) of(id uint64) string {
	var b bytes.Buffer
	for _, e := range r.book.entries {
		if e.id == id {
			fmt.Fprintf(&b, "[upstream %d, attempt %d, %d bytes, whole %t, met %t]", e.host, e.attempt, e.bytes, e.whole, e.met)
		}
	}
	return b.String()
}
