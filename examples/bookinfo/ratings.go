package main

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"
)

// ratings keeps the stars that were posted, in memory.
type ratings struct {
	mu     sync.Mutex
	posted map[int]map[string]int
}

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
	s.mu.Lock()
	stars, ok := s.posted[id]
	s.mu.Unlock()
	if !ok {
		stars = map[string]int{"Reviewer1": 5, "Reviewer2": 4}
	}
	writeJSON(w, http.StatusOK, ratingsAnswer{id, stars})
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
