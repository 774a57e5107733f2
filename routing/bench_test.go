package routing

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

// BenchmarkConditions is a rule of ten conditions that all hold, five on headers and five on the query: 300 ns at most. By
// hand is what a program would write for the same over net/http.
func BenchmarkConditions(b *testing.B) {
	header, query := http.Header{}, ""
	m := Match{PathKind: PathPrefix, Path: call.Prefix("/books")}
	for i := range 5 {
		name, value := fmt.Sprintf("X-Condition-%d", i), fmt.Sprintf("value-%d", i)
		header.Set(name, value)
		query += fmt.Sprintf("&key%d=%s", i, value)
		matcher := call.Exact(value)
		if i == 1 {
			matcher = call.Prefix("value")
		}
		m.Headers = append(m.Headers, HeaderMatch{Name: call.NewName(name), Value: matcher})
		m.Query = append(m.Query, QueryMatch{fmt.Sprintf("key%d", i), matcher})
	}
	v := host(route("r", m))
	req, err := http.NewRequest(http.MethodGet, "http://reviews/books/1?"+query[1:], nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header = header
	q := &call.Request{Method: "GET", Scheme: "http", Authority: "reviews", Path: req.URL.Path, Query: req.URL.RawQuery, Headers: call.HTTPHeaders(header)}
	b.Run("rule", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r, _ := v.Match(q); r == nil {
				b.Fatal("no match")
			}
		}
	})
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			asked, held := req.URL.Query(), true
			for i := range m.Headers {
				held = held && req.Header.Get(m.Headers[i].Name.Canonical()) != "" && asked.Get(m.Query[i].Name) != ""
			}
			if !held {
				b.Fatal("no match")
			}
		}
	})
}

// BenchmarkDistinctPaths is one rule for each path, asked for in random order: 10,000 within 3 times of 10. ServeMux with
// the same paths is the yardstick.
func BenchmarkDistinctPaths(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		var routes []*Route
		mux := http.NewServeMux()
		asked := make([]*call.Request, n)
		reqs := make([]*http.Request, n)
		for i := range n {
			path := fmt.Sprintf("/svc%05d/books", i)
			routes = append(routes, route(fmt.Sprint(i), Match{PathKind: PathExact, Path: call.Exact(path)}))
			mux.Handle(path, http.NotFoundHandler())
			asked[i] = request("GET", path, "")
			reqs[i], _ = http.NewRequest(http.MethodGet, "http://reviews"+path, nil)
		}
		v := host(routes...)
		order := rand.New(rand.NewPCG(1, 1)).Perm(n)
		b.Run(fmt.Sprintf("paths=%d/rules", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if r, _ := v.Match(asked[order[i%n]]); r == nil {
					b.Fatal("no match")
				}
			}
		})
		b.Run(fmt.Sprintf("paths=%d/ServeMux", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, pattern := mux.Handler(reqs[order[i%n]]); pattern == "" {
					b.Fatal("no match")
				}
			}
		})
	}
}
