package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

//go:embed static
var static embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"times": func(n int) []struct{} { return make([]struct{}, max(0, min(n, 5))) },
	"rest":  func(n int) []struct{} { return make([]struct{}, 5-max(0, min(n, 5))) },
}).ParseFS(static, "static/*.html"))

// The original waits 3 s for each call and tries reviews twice: the deliberate fault that a delay of 7 s
// brings to light.
const (
	callTimeout     = 3 * time.Second
	reviewsAttempts = 2
)

// productpage is the front page: it asks details and reviews and shows what they say.
type productpage struct {
	client *http.Client

	mu     sync.Mutex
	counts map[string]int // request_result_total by destination and code
}

type product struct {
	ID              int    `json:"id"`
	Title           string `json:"title"`
	DescriptionHTML string `json:"descriptionHtml"`
}

var products = []product{{ID: 0, Title: "The Comedy of Errors",
	DescriptionHTML: `<a href="https://en.wikipedia.org/wiki/The_Comedy_of_Errors">Wikipedia Summary</a>: The Comedy of Errors is one of ` +
		`<b>William Shakespeare's</b> early plays. It is his shortest and one of his most farcical comedies, with a major part of the ` +
		`humour coming from slapstick and mistaken identity, in addition to puns and word play.`}}

func newProductpage(client *http.Client) *productpage {
	return &productpage{client: client, counts: make(map[string]int)}
}

func (p *productpage) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", p.index)
	mux.HandleFunc("GET /index.html", p.index)
	mux.HandleFunc("GET /productpage", p.page)
	mux.HandleFunc("POST /login", p.login)
	mux.HandleFunc("GET /logout", p.logout)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Product page is healthy") })
	mux.HandleFunc("GET /metrics", p.metrics)
	mux.HandleFunc("GET /api/v1/products", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, products) })
	mux.HandleFunc("GET /api/v1/products/{id}", p.api(p.details))
	mux.HandleFunc("GET /api/v1/products/{id}/reviews", p.api(p.reviews))
	mux.HandleFunc("GET /api/v1/products/{id}/ratings", p.api(p.ratings))
	mux.Handle("GET /static/", http.FileServerFS(static))
}

func (p *productpage) index(w http.ResponseWriter, _ *http.Request) {
	p.render(w, "index.html", []struct{ Name, URL string }{
		{"details", upstream("details", "DETAILS")}, {"reviews", upstream("reviews", "REVIEWS")}, {"ratings", upstream("ratings", "RATINGS")}})
}

// view is what the page shows.
type view struct {
	User         string
	Product      product
	Description  template.HTML // our own constant, above
	Details      details
	DetailsError string
	Reviews      reviewsAnswer
	ReviewsError string
}

func (p *productpage) page(w http.ResponseWriter, r *http.Request) {
	v := view{User: user(r), Product: products[0], Description: template.HTML(products[0].DescriptionHTML)}
	p.identify(r, v.User)
	id := strconv.Itoa(v.Product.ID)
	if status, body := p.details(r, id); status != http.StatusOK || json.Unmarshal(body, &v.Details) != nil {
		v.DetailsError = errorOf(body)
	}
	if status, body := p.reviews(r, id); status != http.StatusOK || json.Unmarshal(body, &v.Reviews) != nil {
		v.ReviewsError = errorOf(body)
	}
	p.render(w, "productpage.html", v)
}

func (p *productpage) render(w http.ResponseWriter, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := pages.ExecuteTemplate(w, name, data); err != nil {
		http.Error(w, "page cannot be made", http.StatusInternalServerError)
	}
}

// api serves what a back end answers as it is.
func (p *productpage) api(ask func(*http.Request, string) (int, []byte)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		if _, err := strconv.Atoi(id); err != nil {
			writeError(w, http.StatusBadRequest, "please provide numeric product id")
			return
		}
		p.identify(r, user(r))
		status, body := ask(r, id)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

// identify tells the back ends who is signed in: it is by this header that rules know jason.
func (p *productpage) identify(r *http.Request, user string) {
	r.Header.Del("end-user")
	if user != "" {
		r.Header.Set("end-user", user)
	}
}

func (p *productpage) details(r *http.Request, id string) (int, []byte) {
	return p.ask(r, "details", "DETAILS", "/details/"+id, 1)
}

func (p *productpage) reviews(r *http.Request, id string) (int, []byte) {
	return p.ask(r, "reviews", "REVIEWS", "/reviews/"+id, reviewsAttempts)
}

func (p *productpage) ratings(r *http.Request, id string) (int, []byte) {
	return p.ask(r, "ratings", "RATINGS", "/ratings/"+id, 1)
}

// ask calls a back end. Whatever goes wrong becomes the status of the callee, or 500, and an apology.
func (p *productpage) ask(r *http.Request, name, env, path string, attempts int) (status int, body []byte) {
	var err error
	for range attempts {
		status, body, err = call(r, p.client, upstream(name, env)+path, callTimeout)
		p.count(name, status)
		if err == nil && status == http.StatusOK {
			return status, body
		}
	}
	if err != nil || status == 0 {
		status = http.StatusInternalServerError
	}
	body, _ = json.Marshal(map[string]string{
		"error": "Sorry, product " + name + " are currently unavailable for this book."})
	return status, body
}

func (p *productpage) count(destination string, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[fmt.Sprintf(`request_result_total{destination_app=%q,response_code="%d"}`, destination, status)]++
}

func (p *productpage) metrics(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprint(w, "# HELP request_result_total Results of requests\n# TYPE request_result_total counter\n")
	for series, n := range p.counts {
		fmt.Fprintf(w, "%s %d\n", series, n)
	}
}

// sessionCookie holds the user's name. It proves nothing: any password is right, as in the original.
const sessionCookie = "session"

func (p *productpage) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	name := r.PostFormValue("username")
	if len(name) > 64 {
		http.Error(w, "that name is too long", http.StatusBadRequest)
		return
	}
	//nolint:gosec // no Secure: the demo is served over plain HTTP
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: url.QueryEscape(name), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/productpage", http.StatusFound)
}

func (p *productpage) logout(w http.ResponseWriter, r *http.Request) {
	//nolint:gosec // as in login
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/productpage", http.StatusFound)
}

func user(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	name, err := url.QueryUnescape(c.Value)
	if err != nil {
		return ""
	}
	return name
}

func errorOf(body []byte) string {
	var e struct{ Error string }
	if json.Unmarshal(body, &e) != nil || e.Error == "" {
		return "Sorry, the answer could not be read."
	}
	return e.Error
}
