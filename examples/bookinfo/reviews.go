package main

import (
	"encoding/json"
	"net/http"
	"os"
	"time"
)

// reviews is the reviews service: v1 shows no stars, v2 black and v3 red ones, which it asks ratings for.
type reviews struct {
	calls   *caller
	version string
	stars   bool
	color   string
	timeout time.Duration
}

type reviewsAnswer struct {
	ID          string   `json:"id"`
	Podname     string   `json:"podname"`
	Clustername string   `json:"clustername"`
	Reviews     []review `json:"reviews"`
}

type review struct {
	Reviewer string  `json:"reviewer"`
	Text     string  `json:"text"`
	Rating   *rating `json:"rating,omitempty"`
}

type rating struct {
	Stars *int   `json:"stars,omitempty"`
	Color string `json:"color,omitempty"`
	Error string `json:"error,omitempty"`
}

func newReviews(calls *caller, version string) *reviews {
	s := &reviews{calls: calls, version: version, stars: os.Getenv("ENABLE_RATINGS") == "true",
		color: envOr("STAR_COLOR", "black"), timeout: 10 * time.Second}
	if s.color != "black" {
		s.timeout = 2500 * time.Millisecond
	}
	return s
}

func (s *reviews) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /reviews/{id}", s.get)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "Reviews is healthy"})
	})
}

func (s *reviews) get(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if _, ok := productID(r); !ok {
		writeError(w, http.StatusBadRequest, "please provide numeric product ID")
		return
	}
	a := reviewsAnswer{ID: id, Podname: envOr("HOSTNAME", "reviews-"+s.version), Clustername: envOr("CLUSTER_NAME", "null"),
		Reviews: []review{
			{Reviewer: "Reviewer1", Text: "I laughed until the twins were told apart. Slapstick at its best, and over in one evening."},
			{Reviewer: "Reviewer2", Text: "Great fun, and lighter than the later plays: come for the confusion, not for the depth."},
		}}
	if s.stars {
		alsoServed(w, s.rate(r, id, a.Reviews))
	}
	writeJSON(w, http.StatusOK, a)
}

// rate puts the stars on the reviews, or says that there are none to be had, and gives who served them.
func (s *reviews) rate(r *http.Request, id string, list []review) string {
	var stars ratingsAnswer
	a, err := s.calls.call(r, upstream("ratings")+"/ratings/"+id, s.timeout)
	ok := err == nil && a.status == http.StatusOK && json.Unmarshal(a.body, &stars) == nil
	for i := range list {
		list[i].Rating = &rating{Error: "Ratings service is currently unavailable"}
		if n, has := stars.Ratings[list[i].Reviewer]; ok && has {
			list[i].Rating = &rating{Stars: new(n), Color: s.color}
		}
	}
	return a.served
}
