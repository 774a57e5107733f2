package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The original waits 3 s for each call and tries reviews twice: the deliberate fault that a delay of 7 s
// brings to light.
const (
	callTimeout     = 3 * time.Second
	reviewsAttempts = 2
)

// productpage is the front page: it asks details and reviews and shows what they say.
type productpage struct {
	calls *caller

	mu     sync.Mutex
	counts map[string]int // request_result_total by destination and code
}

type product struct {
	ID              int    `json:"id"`
	Title           string `json:"title"`
	DescriptionHTML string `json:"descriptionHtml"`
}

var products = func() (list []product) {
	if err := json.Unmarshal([]byte(bundledText("page/products.json")), &list); err != nil {
		panic(err)
	}
	return list
}()

func bundledText(name string) string {
	text, err := bundled.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func newProductpage(calls *caller) *productpage {
	return &productpage{calls: calls, counts: make(map[string]int)}
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
	for _, name := range []string{"style.css", "icon.svg"} {
		mux.HandleFunc("GET /static/"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, bundled, "static/"+name) })
	}
}

func (p *productpage) index(w http.ResponseWriter, _ *http.Request) {
	render(w, "index.html", values{"services": []values{
		{"name": "details", "url": upstream("details"), "caller": "productpage"},
		{"name": "reviews", "url": upstream("reviews"), "caller": "productpage"},
		{"name": "ratings", "url": upstream("ratings"), "caller": "reviews"}}})
}

func (p *productpage) page(w http.ResponseWriter, r *http.Request) {
	book, name := products[0], user(r)
	identify(r, name)
	id := strconv.Itoa(book.ID)
	d, rv := p.details(r, id), p.reviews(r, id)
	v := values{"user": name, "title": book.Title, "description": book.DescriptionHTML, "hops": []values{
		{"service": "productpage", "programs": programs(w.Header().Get(served))},
		{"service": "details", "programs": programs(d.served)},
		{"service": "reviews", "programs": programs(rv.served)}}}
	showDetails(v, d)
	showReviews(v, rv)
	render(w, "productpage.html", v)
}

func showDetails(v values, a answer) {
	var d details
	if a.status != http.StatusOK || json.Unmarshal(a.body, &d) != nil {
		v["detailsError"] = errorOf(a.body)
		return
	}
	v["details"] = values{"author": d.Author, "year": strconv.Itoa(d.Year), "type": d.Type, "pages": strconv.Itoa(d.Pages),
		"publisher": d.Publisher, "language": d.Language, "isbn10": d.ISBN10, "isbn13": d.ISBN13}
}

func showReviews(v values, a answer) {
	var all reviewsAnswer
	if a.status != http.StatusOK || json.Unmarshal(a.body, &all) != nil {
		v["reviewsError"] = errorOf(a.body)
		return
	}
	list := []values{}
	for _, one := range all.Reviews {
		// Those that are not there hide nothing of an outer part.
		shown := values{"reviewer": one.Reviewer, "text": one.Text, "stars": nil, "ratingError": ""}
		switch {
		case one.Rating == nil:
		case one.Rating.Error != "":
			shown["ratingError"] = one.Rating.Error
		case one.Rating.Stars != nil:
			n := max(0, min(*one.Rating.Stars, 5))
			shown["stars"] = values{"count": strconv.Itoa(n), "color": one.Rating.Color,
				"full": strings.Repeat("★", n), "empty": strings.Repeat("☆", 5-n)}
		}
		list = append(list, shown)
	}
	v["reviews"], v["podname"] = list, all.Podname
}

// programs reads who answered: "reviews-v2 (Java 17.0.15), ratings-v1 (Node 20.1.0)".
func programs(servedBy string) []values {
	var list []values
	for one := range strings.SplitSeq(servedBy, ", ") {
		if name, runtime, ok := strings.Cut(strings.TrimSuffix(one, ")"), " ("); ok {
			list = append(list, values{"name": name, "runtime": runtime})
		}
	}
	return list
}

// policy keeps a page to what is our own; there are no scripts in it.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func render(w http.ResponseWriter, name string, v values) {
	var out strings.Builder
	fill(&out, bundledText("page/"+name), v)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, out.String())
}

// api serves what a back end answers as it is.
func (p *productpage) api(ask func(*http.Request, string) answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, ok := productID(r); !ok {
			writeError(w, http.StatusBadRequest, "please provide numeric product id")
			return
		}
		identify(r, user(r))
		a := ask(r, r.PathValue("id"))
		alsoServed(w, a.served)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body)
	}
}

// identify tells the back ends who is signed in: it is by this header that rules know jason.
func identify(r *http.Request, user string) {
	r.Header.Del("end-user")
	if user != "" {
		r.Header.Set("end-user", user)
	}
}

func (p *productpage) details(r *http.Request, id string) answer { return p.ask(r, "details", id, 1) }
func (p *productpage) reviews(r *http.Request, id string) answer {
	return p.ask(r, "reviews", id, reviewsAttempts)
}
func (p *productpage) ratings(r *http.Request, id string) answer { return p.ask(r, "ratings", id, 1) }

// ask calls a back end. Whatever goes wrong becomes the status of the callee, or 500, and an apology.
func (p *productpage) ask(r *http.Request, name, id string, attempts int) answer {
	var a answer
	var err error
	for range attempts {
		a, err = p.calls.call(r, upstream(name)+"/"+name+"/"+id, callTimeout)
		p.count(name, a.status)
		if err == nil && a.status == http.StatusOK {
			return a
		}
	}
	if a.status == 0 || err != nil && a.status == http.StatusOK {
		a.status = http.StatusInternalServerError
	}
	a.body, _ = json.Marshal(map[string]string{
		"error": "Sorry, product " + name + " are currently unavailable for this book."})
	return a
}

func (p *productpage) count(destination string, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[fmt.Sprintf(`request_result_total{destination_app=%q,response_code="%d"}`, destination, status)]++
}

func (p *productpage) metrics(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, "# HELP request_result_total Results of requests\n# TYPE request_result_total counter\n")
	for _, series := range slices.Sorted(maps.Keys(p.counts)) {
		fmt.Fprintf(w, "%s %d\n", series, p.counts[series])
	}
}

// sessionCookie holds the user's name. It proves nothing: any password is right, as in the original.
const sessionCookie = "session"

func (p *productpage) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return
	}
	name := r.PostForm.Get("username")
	if !nameable(name) {
		http.Error(w, "a user name has at most 64 bytes and no control characters", http.StatusBadRequest)
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

// nameable reports names that may travel in a header.
func nameable(name string) bool {
	return len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func user(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	name, err := url.QueryUnescape(c.Value)
	if err != nil || !nameable(name) {
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
