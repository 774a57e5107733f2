package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestHandlerToClient: what comes in with a request goes out with the calls made for it, and only those.
func TestHandlerToClient(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 1)
	upstream := serve(t, func(w http.ResponseWriter, r *http.Request) { seen <- r.Header })
	r := newRig(t, snapshot.HTTP1, nil, upstream)
	front := httptest.NewServer(NewInbound(r.engine).Handler(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		out, _ := http.NewRequestWithContext(q.Context(), http.MethodGet, "http://svc/", nil)
		resp, err := r.client.Do(out)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
		w.Header().Set("Saw", q.Header.Get("X-Request-Id"))
	})))
	defer front.Close()
	ask := func(h http.Header) (saw string, carried http.Header) {
		req, _ := http.NewRequest(http.MethodGet, front.URL, nil)
		req.Header = h
		resp, err := front.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.Header.Get("Saw"), <-seen
	}
	in := allCarried()
	in.Set("Authorization", "secret")
	in.Set("Cookie", "secret")
	saw, out := ask(in)
	for key, values := range allCarried() {
		if !slices.Equal(out[key], values) {
			t.Errorf("%s: %q went out", key, out[key])
		}
	}
	if saw != "of x-request-id" || out.Get("Authorization") != "" || out.Get("Cookie") != "" {
		t.Errorf("the program saw %q, the upstream %v", saw, out)
	}
	uuid4 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	made := make(map[string]bool)
	for range 10 {
		saw, out = ask(http.Header{})
		if !uuid4.MatchString(saw) || out.Get("X-Request-Id") != saw || made[saw] {
			t.Errorf("the program saw %q, the upstream %q", saw, out.Get("X-Request-Id"))
		}
		made[saw] = true
	}
}

// TestHandlerLeavesTheRequestAlone: what the server made is not written to, what the program gets is the
// same writer.
func TestHandlerLeavesTheRequestAlone(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	var got *http.Request
	h := inbound(t).Handler(http.HandlerFunc(func(inner http.ResponseWriter, r *http.Request) {
		if inner != http.ResponseWriter(w) {
			t.Errorf("the writer is a %T", inner)
		}
		got = r
	}))
	req := httptest.NewRequest(http.MethodGet, "/a%00b//../c;x?a;b", nil)
	uri := *req.URL
	h.ServeHTTP(w, req)
	if len(req.Header) != 0 || *req.URL != uri || *got.URL != uri || got.RequestURI != req.RequestURI || CarriedFrom(req.Context()) != nil {
		t.Errorf("the request became %+v, the program got %+v", req, got)
	}
	if len(CarriedFrom(got.Context()).Fields()) != 1 {
		t.Errorf("carried: %+v", CarriedFrom(got.Context()))
	}
	defer func() {
		if p, _ := recover().(error); !errors.Is(p, http.ErrAbortHandler) {
			t.Errorf("the panic became %v", p)
		}
	}()
	inbound(t).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).ServeHTTP(w, req)
}

// TestHandlerBoundsFields: B-053, by count, whether names differ or not.
func TestHandlerBoundsFields(t *testing.T) {
	t.Parallel()
	h := inbound(t).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for name, key := range map[string]string{"names": "X-%d", "values": "Cookie"} {
		for n, want := range map[int]int{MaxHeaderFields: 200, MaxHeaderFields + 1: 431, 1000: 431} {
			req := httptest.NewRequest(http.MethodGet, "/", nil)
			for i := range n {
				k := key
				if name == "names" {
					k = fmt.Sprintf(key, i)
				}
				req.Header.Add(k, "a=b")
			}
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, req); w.Code != want {
				t.Errorf("%d %s gave %d, want %d", n, name, w.Code, want)
			}
		}
	}
}

// TestServeRefusesBigHeaders: B-052 and B-053 through a server.
func TestServeRefusesBigHeaders(t *testing.T) {
	t.Parallel()
	in := inbound(t)
	l := listen(t)
	run(t, in, &http.Server{Handler: http.NotFoundHandler()}, l)
	for name, h := range map[string]string{
		"one of 80 KiB": "X: " + strings.Repeat("x", 80<<10) + "\r\n",
		"5,000 crumbs":  strings.Repeat("Cookie: a\r\n", 5000),
	} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+h+"\r\n")
		got := make([]byte, 12)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "HTTP/1.1 431" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		c.Close()
	}
}

// TestHandlerTakesOffH2C: B-061.
func TestHandlerTakesOffH2C(t *testing.T) {
	t.Parallel()
	var got http.Header
	h := inbound(t).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	for upgrade, kept := range map[string]bool{
		"h2c": false, "websocket, H2C": false, "h2c ,x": false, "websocket": true, "h2cx": true,
	} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header = http.Header{"Upgrade": {upgrade}, "Connection": {"Upgrade, HTTP2-Settings"}, "Http2-Settings": {"AAMAAABk"}}
		h.ServeHTTP(httptest.NewRecorder(), req)
		if (got.Get("Upgrade") != "") != kept || (got.Get("Connection") != "") != kept || req.Header.Get("Upgrade") != upgrade {
			t.Errorf("%s: the program saw %v, the request has %v", upgrade, got, req.Header)
		}
	}
}

// TestHandlerKeepsMultipartCleanup: net/http removes the temporary files of the request that it made.
func TestHandlerKeepsMultipartCleanup(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, _ := form.CreateFormFile("f", "f")
	part.Write(bytes.Repeat([]byte("x"), 1<<16))
	form.Close()
	s := httptest.NewServer(inbound(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
		files, _ := os.ReadDir(dir)
		fmt.Fprint(w, len(files))
	})))
	resp, err := http.Post(s.URL, form.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	s.Close() // waits for the handler's end
	if left, err := os.ReadDir(dir); string(b) != "1" || len(left) != 0 || err != nil {
		t.Errorf("%s temporary files while served, %d after, %v", b, len(left), err)
	}
}

func BenchmarkHandler(b *testing.B) {
	e := NewEngine(Config{Registry: new(discovery.Registry), Pools: new(noopPools)})
	defer e.Close()
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	h := NewInbound(e).Handler(next)
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	w := httptest.NewRecorder()
	for name, header := range map[string]http.Header{
		"bare": nil, "no id": headers("User-Agent", "x"),
		"traced": headers("User-Agent", "x", "X-Request-Id", "r", "Traceparent", "p", "Tracestate", "s"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			run := h
			if header == nil {
				run = next
			}
			req.Header = header
			for b.Loop() {
				run.ServeHTTP(w, req)
			}
		})
	}
}
