package main

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"time"
)

// reviews is the reviews service: v1 shows no stars, v2 black and v3 red ones, which it asks ratings for.
type reviews struct {
	client  *http.Client
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
	Stars int    `json:"stars,omitempty"`
	Color string `json:"color,omitempty"`
	Error string `json:"error,omitempty"`
}

func newReviews(client *http.Client, version string) *reviews {
	s := &reviews{client: client, version: version, stars: os.Getenv("ENABLE_RATINGS") == "true",
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
	if _, err := strconv.Atoi(id); err != nil {
		writeError(w, http.StatusBadRequest, "please provide numeric product ID")
		return
	}
	a := reviewsAnswer{ID: id, Podname: envOr("HOSTNAME", "reviews-"+s.version), Clustername: envOr("CLUSTER_NAME", "null"),
		Reviews: []review{
			{Reviewer: "Reviewer1", Text: "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},
			{Reviewer: "Reviewer2", Text: "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."},
		}}
	if s.stars {
		s.rate(r, id, a.Reviews)
	}
	w.Header().Set("x-reviews-version", s.version)
	writeJSON(w, http.StatusOK, a)
}

// rate puts the stars on the reviews, or says that there are none to be had.
func (s *reviews) rate(r *http.Request, id string, list []review) {
	var answer ratingsAnswer
	status, body, err := call(r, s.client, upstream("ratings", "RATINGS")+"/ratings/"+id, s.timeout)
	ok := err == nil && status == http.StatusOK && json.Unmarshal(body, &answer) == nil
	for i := range list {
		list[i].Rating = &rating{Error: "Ratings service is currently unavailable"}
		if stars, has := answer.Ratings[list[i].Reviewer]; ok && has {
			list[i].Rating = &rating{Stars: stars, Color: s.color}
		}
	}
}
