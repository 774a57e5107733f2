package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A behaviour is one thing that net/http's server does, and what it looks like from outside.
type behaviour struct {
	name    string
	request string // the whole of what the client sends; a request that ends the connection follows
	handler http.HandlerFunc
	differs string // why the codec answers otherwise, "" where it does not
}

func plainly(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func get(path, fields string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n"
}

func post(fields, body string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body
}

func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%q %v %v", b, err, r.Trailer)
}

// told is all that a handler can see of a request.
func told(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	header := maps.Clone(r.Header)
	delete(header, "X-Request-Id")
	fmt.Fprintf(w, "%s %q %#v %s %d %v %v %v %q %v %q %v %v", r.Method, r.RequestURI, *r.URL, r.Proto, r.ContentLength, r.TransferEncoding, r.Close,
		header, r.Host, r.Trailer, b, err, r.TLS)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func fields(code int, body string, kv ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(kv); i += 2 {
			w.Header().Add(kv[i], kv[i+1])
		}
		w.WriteHeader(code)
		if _, err := io.WriteString(w, body); err != nil {
			w.Header().Set("Never", "sent")
		}
	}
}

// ownVersion: the status line tells the sender's version (RFC 9110 §2.5, RFC 9112 §2.3).
const ownVersion = "answers are of HTTP/1.1 whatever the request is of"

var behaviours = []behaviour{
	{"implicit 200", get("/", ""), plainly("hello"), ""},
	{"nothing written", get("/", ""), func(http.ResponseWriter, *http.Request) {}, ""},
	{"sniffs HTML", get("/", ""), plainly("<html><body>"), ""},
	{"sniffs across writes", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "<ht")
		io.WriteString(w, "ml>")
	}, ""},
	{"own content type", get("/", ""), fields(200, "x", "Content-Type", "a/b"), ""},
	{"content type suppressed", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "x")
	}, ""},
	{"not sniffed when encoded", get("/", ""), fields(200, "<html>", "Content-Encoding", "gzip"), ""},
	{"date suppressed", get("/", ""), func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = nil }, ""},
	{"own date", get("/", ""), fields(200, "x", "Date", "yesterday"), ""},
	{"2048 bytes have a length", get("/", ""), plainly(strings.Repeat("a", 2048)), ""},
	{"2049 bytes are chunked", get("/", ""), plainly(strings.Repeat("a", 2049)), ""},
	{"many small writes", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		for range 1000 {
			io.WriteString(w, "0123456789")
		}
	}, ""},
	{"own length", get("/", ""), fields(200, "hello", "Content-Length", "5"), ""},
	{"own length, large", get("/", ""), fields(200, strings.Repeat("a", 100_000), "Content-Length", "100000"), ""},
	{"length of no number", get("/", ""), fields(200, "hello", "Content-Length", "five"),
		"what is not sent does not count: the length is measured"},
	{"writes more than its length", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		io.WriteString(w, "abc")
		if _, err := io.WriteString(w, "d"); !errors.Is(err, http.ErrContentLength) {
			panic("no error")
		}
	}, "the answer was whole, so its connection is kept"},
	{"writes less than its length", get("/", ""), fields(200, "abc", "Content-Length", "30"), ""},
	{"header after WriteHeader", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("A", "1")
		w.WriteHeader(201)
		w.Header().Set("A", "2")
		w.Header().Set("B", "2")
	}, ""},
	{"WriteHeader twice", get("/", ""), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); w.WriteHeader(202) }, ""},
	{"flush at once", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		io.WriteString(w, "later")
	}, ""},
	{"HEAD of a short body", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", plainly("hello"), ""},
	{"HEAD of a long body", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", plainly(strings.Repeat("a", 5000)), ""},
	{"HEAD of nothing", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", status(200), ""},
	{"HEAD with a length", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", fields(200, "", "Content-Length", "7"), ""},
	{"204", get("/", ""), status(204), ""},
	{"204 with a body", get("/", ""), fields(204, "x"), ""},
	{"204 with a length", get("/", ""), fields(204, "", "Content-Length", "5"), ""},
	{"304", get("/", ""), fields(304, "x", "ETag", "e", "Content-Type", "a/b", "Content-Length", "4"), ""},
	{"404", get("/", ""), http.NotFound, ""},
	{"status without a name", get("/", ""), fields(299, "x"), ""},
	{"early hints", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "l")
		w.WriteHeader(103)
		w.Header().Set("Link", "m")
		w.WriteHeader(103)
		w.WriteHeader(200)
	}, ""},
	{"processing", get("/", ""), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(102); io.WriteString(w, "x") }, ""},
	{"field name that is none", get("/", ""), fields(200, "x", "A b", "c"), ""},
	{"line end in a value", get("/", ""), fields(200, "x", "A", "b\r\nc: d"), ""},
	{"NUL in a value", get("/", ""), fields(200, "x", "A", "b\x00c"), "net/http sends control characters; RFC 9110 §5.5 has none"},
	{"repeated fields", get("/", ""), fields(200, "x", "A", "1", "A", "2"), ""},
	{"own Connection: close", get("/", ""), fields(200, "x", "Connection", "close"), ""},
	{"Connection: close of the client", get("/", "Connection: close\r\n"), plainly("x"), ""},
	{"trailer", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "A, B")
		io.WriteString(w, "x")
		w.Header().Set("A", "1")
	}, ""},
	{"trailer by prefix", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		io.WriteString(w, "x")
		w.Header().Set(http.TrailerPrefix+"Late", "1")
	}, ""},
	{"trailer of framing", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Content-Length, Ok")
		w.(http.Flusher).Flush()
		w.Header().Set("Content-Length", "3")
		w.Header().Set("Ok", "1")
	}, ""},
	{"identity coding", get("/", ""), fields(200, "x", "Transfer-Encoding", "identity"), ""},
	{"chunked by the handler", get("/", ""), fields(200, "x", "Transfer-Encoding", "chunked"), ""},
	{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", plainly("x"), ownVersion},
	{"HTTP/1.0, long", "GET / HTTP/1.0\r\n\r\n", plainly(strings.Repeat("a", 5000)), ownVersion},
	{"HTTP/1.0 with keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", plainly("x"),
		"HTTP/1.0 connections end with the answer (RFC 9112 §C.2.2: a proxy before us may not know keep-alive)"},
	{"HTTP/1.0 early hints", "GET / HTTP/1.0\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103) },
		"HTTP/1.0 has no 1xx (RFC 9110 §15.2); net/http sends them"},
	{"panic", get("/", ""), func(http.ResponseWriter, *http.Request) { panic("x") }, ""},
	{"panic after the head", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}, ""},
	{"pipelining", get("/1", "") + get("/2", "") + get("/3", ""), told, ""},
	{"body by length", post("Content-Length: 5\r\n", "hello"), told, ""},
	{"chunked body", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n3;a=b\r\nabc\r\n0\r\n\r\n"), told, ""},
	{"request trailer", post("Transfer-Encoding: chunked\r\nTrailer: A, B\r\n", "1\r\nx\r\n0\r\nA: 1\r\nC: 2\r\n\r\n"), echo, ""},
	{"request trailer unannounced", post("Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\nA: 1\r\n\r\n"), echo, ""},
	{"body of GET", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", told, ""},
	{"unread body", post("Content-Length: 5\r\n", "hello"), plainly("x"), ""},
	{"unread chunked body", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), plainly("x"), ""},
	{"unread body, announced large", post("Content-Length: 1000000\r\n", "hello"), plainly("x"), ""},
	{"body closed unread", post("Content-Length: 5\r\n", "hello"), func(w http.ResponseWriter, r *http.Request) { r.Body.Close() }, ""},
	{"read after close", post("Content-Length: 5\r\n", "hello"), func(w http.ResponseWriter, r *http.Request) {
		r.Body.Close()
		_, err := r.Body.Read(make([]byte, 1))
		fmt.Fprint(w, err)
	}, ""},
	{"expectation, body read", post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"), echo, ""},
	{"expectation, body not read", post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"), plainly("x"), ""},
	{"another expectation", post("Expect: x\r\nContent-Length: 5\r\n", "hello"), plainly("x"), "the text says which rule is broken"},
	{"full duplex", post("Content-Length: 5\r\n", "hello"), func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		echo(w, r)
	}, ""},
	{"absolute form", "GET http://b:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n", told, ""},
	{"escaped path", get("/a%2Fb%20c/%7e?x=%20", ""), told, ""},
	{"two slashes", get("//b//c", ""), told, ""},
	{"question mark alone", get("/a?", ""), told, ""},
	{"odd bytes in a path", get("/a|b[c]^d:e@f;g,h=i!j$k&l'm(n)o*p+q", ""), told, ""},
	{"CONNECT accepted", "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", told, "a 2xx to CONNECT has no body, and a tunnel follows (RFC 9110 §9.3.6)"},
	{"CONNECT refused", "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(405)
		told(w, r)
	}, ""},
	{"OPTIONS asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", told, ""},
	{"Pragma", get("/", "Pragma: no-cache\r\n"), told, ""},
	{"field names made canonical", get("/", "x-lower: 1\r\nX-LOWER: 2\r\nCookie: a\r\n"), told, ""},
	{"Content-Length 0", post("Content-Length: 0\r\n", ""), told, ""},
	{"basic authorization", get("/", "Authorization: Basic YTpi\r\n"), func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header["Authorization"]) }, ""},
	{"ReadFrom", get("/", ""), func(w http.ResponseWriter, _ *http.Request) {
		io.Copy(w, strings.NewReader(strings.Repeat("x", 100_000)))
	}, ""},
	{"ServeContent range", get("/", "Range: bytes=2-4\r\n"), func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader("0123456789"))
	}, ""},
	{"redirect", get("/", ""), http.RedirectHandler("/b", http.StatusFound).ServeHTTP, ""},
	{"MaxBytesHandler", post("Content-Length: 50\r\n", strings.Repeat("x", 50)), http.MaxBytesHandler(http.HandlerFunc(echo), 3).ServeHTTP,
		"net/http ends the connection, by a method that only its own writer can have; here what is left is bounded and drained"},
	{"TimeoutHandler", get("/", ""), http.TimeoutHandler(plainly("x"), time.Minute, "late").ServeHTTP, ""},
	{"mux", get("/a/../b", ""), func(w http.ResponseWriter, r *http.Request) {
		m := http.NewServeMux()
		m.Handle("GET /b", plainly("b"))
		m.ServeHTTP(w, r)
	}, ""},
	{"status 700", get("/", ""), fields(700, "x"), "there is no such status (RFC 9110 §15): 500 is sent, and reported"},
	{"hijack", get("/", ""), func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		next, _ := rw.ReadString('\n')
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(next), next)
	}, ""},
}

// TestServerBehaviours: from outside, and from the handler's side, the codec is net/http but for what is explained.
func TestServerBehaviours(t *testing.T) {
	t.Parallel()
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			theirs, ours := transcript(t, b), transcript(t, b, modes["codec"]...)
			if same := theirs == ours; same != (b.differs == "") {
				t.Errorf("differs %q\nnet/http:\n%s\ncodec:\n%s", b.differs, theirs, ours)
			}
		})
	}
}

// transcript serves a behaviour and writes down what a client hears.
func transcript(t *testing.T, b behaviour, opts ...InboundOption) string {
	t.Helper()
	in, l := inbound(t), listen(t)
	run(t, in, &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: b.handler}, l, opts...)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var sent sync.WaitGroup
	defer sent.Wait()
	sent.Go(func() { io.WriteString(c, b.request+get("/last", "Connection: close\r\n")) })
	br, out := bufio.NewReader(c), new(strings.Builder)
	methods := strings.Count(b.request, "HEAD /")
	for {
		if _, err := br.Peek(1); err != nil {
			fmt.Fprintln(out, "end")
			return out.String()
		}
		req := &http.Request{Method: http.MethodGet}
		if methods > 0 {
			req.Method = http.MethodHead
		}
		resp, err := http.ReadResponse(br, req)
		if err != nil {
			fmt.Fprintln(out, "broken")
			return out.String()
		}
		if resp.StatusCode >= 200 {
			methods--
		}
		text, err := io.ReadAll(resp.Body)
		if resp.Header.Get("Date") != "" && resp.Header.Get("Date") != "yesterday" {
			resp.Header.Set("Date", "now")
		}
		fmt.Fprintf(out, "%s %s length %d %v close %v\n", resp.Proto, resp.Status, resp.ContentLength, resp.TransferEncoding, resp.Close)
		for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
			fmt.Fprintf(out, "  %s: %q\n", name, resp.Header[name])
		}
		if len(text) > 1000 {
			text = fmt.Appendf(nil, "%d bytes, %.20q", len(text), text)
		}
		fmt.Fprintf(out, "  body %q %v %v\n", text, err != nil, resp.Trailer)
	}
}

// TestServerContext: who serves, where, and that a request's context ends with it and with its client.
func TestServerContext(t *testing.T) { eachMode(t, testServerContext) }

func testServerContext(t *testing.T, opts ...InboundOption) {
	in, l := inbound(t), listen(t)
	type key string
	began, ended := make(chan context.Context), make(chan error)
	srv := &http.Server{
		BaseContext: func(got net.Listener) context.Context {
			if got.Addr() != l.Addr() {
				t.Error("another listener")
			}
			return context.WithValue(t.Context(), key("base"), "b")
		},
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return context.WithValue(ctx, key("conn"), "c") },
	}
	srv.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if ctx.Value(http.ServerContextKey) != srv || ctx.Value(http.LocalAddrContextKey).(net.Addr).String() != l.Addr().String() ||
			ctx.Value(key("base")) != "b" || ctx.Value(key("conn")) != "c" || ctx.Err() != nil || r.RemoteAddr == "" {
			t.Errorf("%v, %s", ctx, r.RemoteAddr)
		}
		began <- ctx
		if r.URL.Path == "/gone" {
			<-ctx.Done()
			ended <- ctx.Err()
		}
	})
	run(t, in, srv, l, opts...)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, get("/", ""))
	<-(<-began).Done()
	io.WriteString(c, get("/gone", ""))
	<-began
	c.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestServerStates: the hook hears of every connection what net/http says.
func TestServerStates(t *testing.T) { eachMode(t, testServerStates) }

func testServerStates(t *testing.T, opts ...InboundOption) {
	in, l := inbound(t), listen(t)
	states := make(chan http.ConnState, 100)
	srv := &http.Server{Handler: plainly("x"), ConnState: func(_ net.Conn, s http.ConnState) { states <- s }}
	run(t, in, srv, l, opts...)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for range 2 {
		io.WriteString(c, get("/", ""))
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		body(t, resp)
	}
	c.Close()
	var got []string
	for len(got) == 0 || got[len(got)-1] != "closed" {
		got = append(got, (<-states).String())
	}
	if want := []string{"new", "active", "idle", "active", "idle", "closed"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestServerShutdown: the program's own Shutdown waits for requests, ends what is idle and tells its hooks; Close ends all.
func TestServerShutdown(t *testing.T) { eachMode(t, testServerShutdown) }

func testServerShutdown(t *testing.T, opts ...InboundOption) {
	in, l := inbound(t), listen(t)
	entered, leave, hook := make(chan context.Context), make(chan struct{}), make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			entered <- r.Context()
			<-leave
		}
	})}
	srv.RegisterOnShutdown(func() { close(hook) })
	run(t, in, srv, l, opts...)
	var conns []net.Conn
	for _, path := range []string{"/", "/wait"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		conns = append(conns, c)
		io.WriteString(c, get(path, ""))
		if path == "/" {
			if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx := <-entered
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := srv.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown with a request under way: %v", err)
	}
	<-hook
	if _, err := io.Copy(io.Discard, conns[0]); err != nil {
		t.Errorf("the idle connection: %v", err)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	<-ctx.Done()
	close(leave)
}
