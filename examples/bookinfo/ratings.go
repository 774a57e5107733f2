package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ratings keeps the stars that were posted, in memory.
type ratings struct {
	faults atomic.Uint64 // questions for a faulty one

	mu     sync.Mutex
	posted map[int]map[string]int
}

// moodHeader says how ratings is to take a question. Rules set it, for scenarios that need a service which fails by itself;
// the originals have versions of ratings for that.
const (
	moodHeader = "x-bookinfo-ratings"
	faulty     = "faulty" // 503 for the first of two such questions, and again
	slow       = "slow"   // an answer after lateness, 499 in the log where nobody waits for it any more
)

const lateness = 7 * time.Second

// mostPosted bounds what is kept.
const mostPosted = 1000

type ratingsAnswer struct {
	ID      int            `json:"id"`
	Ratings map[string]int `json:"ratings"`
}

func newRatings() *ratings { return &ratings{posted: make(map[int]map[string]int)} }

func (s *ratings) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /ratings/{id}", s.get)
	mux.HandleFunc("POST /ratings/{id}", s.post)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "Ratings is healthy"})
	})
}

func (s *ratings) get(w http.ResponseWriter, r *http.Request) {
	id, ok := productID(r)
	if !ok {
		writeError(w, http.StatusBadRequest, "please provide numeric product ID")
		return
	}
	switch mood := r.Header.Get(moodHeader); {
	case mood == faulty && s.faults.Add(1)%2 == 1:
		writeError(w, http.StatusServiceUnavailable, "faulty, as asked for")
		return
	case mood == slow && !elapsed(r.Context(), lateness):
		writeError(w, statusClientGone, "nobody waits any more")
		return
	}
	s.mu.Lock()
	stars, ok := s.posted[id]
	s.mu.Unlock()
	if !ok {
		stars = map[string]int{"Reviewer1": 5, "Reviewer2": 4}
	}
	writeJSON(w, http.StatusOK, ratingsAnswer{id, stars})
}

// statusClientGone is what nginx and Envoy log of requests whose client has gone.
const statusClientGone = 499

// elapsed waits; false says that the context has ended before.
func elapsed(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// post replaces the ratings of a product. A map once stored is not changed.
func (s *ratings) post(w http.ResponseWriter, r *http.Request) {
	id, ok := productID(r)
	if !ok {
		writeError(w, http.StatusBadRequest, "please provide numeric product ID")
		return
	}
	var stars map[string]int
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil || json.Unmarshal(body, &stars) != nil || stars == nil {
		writeError(w, http.StatusBadRequest, "please provide valid ratings JSON")
		return
	}
	s.mu.Lock()
	if _, has := s.posted[id]; has || len(s.posted) < mostPosted {
		s.posted[id] = stars
	}
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, ratingsAnswer{id, stars})
}
