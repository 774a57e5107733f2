package http1

import (
	"net"
	"runtime/debug"
	"testing"
	"time"
)

// A loop is a net.Conn that gives the same bytes again and again, and takes all.
type loop struct {
	net.Conn
	b  []byte
	at int
}

func (l *loop) Read(p []byte) (int, error) {
	if l.at == len(l.b) {
		l.at = 0
	}
	n := copy(p, l.b[l.at:])
	l.at += n
	return n, nil
}

func (l *loop) Write(p []byte) (int, error) { return len(p), nil }
func (l *loop) Close() error                { return nil }

const browserRequest = "GET /productpage?u=normal HTTP/1.1\r\nHost: productpage.default.svc.cluster.local:9080\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/118.0\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n" +
	"X-Request-Id: 7c1f0a52-3d1e-4b3f-9a51-9a9a6f1f1c11\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nUpgrade-Insecure-Requests: 1\r\n\r\n"

const serverResponse = "HTTP/1.1 200 OK\r\nServer: gunicorn\r\nDate: Fri, 21 Nov 2025 09:00:00 GMT\r\nContent-Type: application/json\r\n" +
	"Content-Length: 16\r\nCache-Control: no-store\r\nX-Envoy-Upstream-Service-Time: 3\r\nVary: Accept-Encoding\r\n\r\n0123456789abcdef"

const chunkedResponse = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + kilo + "\r\n400\r\n" + kilo + "\r\n0\r\nT: v\r\n\r\n"

const (
	sixteen = "0123456789abcdef"
	quarter = sixteen + sixteen + sixteen + sixteen + sixteen + sixteen + sixteen + sixteen + sixteen + sixteen + sixteen + sixteen + sixteen + sixteen + sixteen + sixteen
	kilo    = quarter + quarter + quarter + quarter
)

// Nothing is allocated for a message once the pools and the indexes have been filled.
func TestAllocs(t *testing.T) { // not parallel: AllocsPerRun counts those of all goroutines
	if raceEnabled {
		t.Skip("the race detector empties pools")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // so does the collector
	var q Request
	var p Response
	var w Writer
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	over := func(s string) *Conn { return conn(t, &loop{b: []byte(s)}, nil) }
	requests, chunkedRequests := over(browserRequest), over(chunkedHead+"5\r\nhello\r\n0\r\nT: v\r\n\r\n")
	responses, chunked, sink := over(serverResponse), over(chunkedResponse), over("")
	a, b := tcpPair(t)
	socket := conn(t, b, nil)
	request, small, large := []byte(browserRequest), make([]byte, 100), make([]byte, 20000)
	wheel := NewWheel(time.Hour)
	defer wheel.Close()
	deadline := wheel.Add(func() {})
	pool := NewPool[string](PoolLimits{})
	defer pool.Close()
	idle, _ := idleConn(t, unixPair)
	pool.Put("k", idle, time.Now())
	now := time.Now()
	header := func() {
		w.Response(200, "OK", "GET")
		for i := range p.Len() {
			if id := p.ID(i); id != FieldContentLength && !id.HopByHop() {
				w.Copy(&p.Fields, i)
			}
		}
		w.Field("X-Envoy-Upstream-Service-Time", "3")
	}
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"request head", func() {
			must(requests.WaitReadable())
			must(requests.ReadRequest(&q))
			if v, ok := q.Get("x-request-id", 0); !ok || v == "" {
				t.Error("a field is missing")
			}
			requests.Release()
		}},
		{"response head and body", func() {
			must(responses.ReadResponse(&p, "GET"))
			_, err := p.Body.Next(0)
			must(err)
			responses.Release()
		}},
		{"chunked request", func() {
			must(chunkedRequests.ReadRequest(&q))
			_, err := q.Body.Drain(100)
			must(err)
			chunkedRequests.Release()
		}},
		{"chunked response", func() {
			must(chunked.ReadResponse(&p, "GET"))
			_, err := p.Body.Drain(1 << 20)
			must(err)
			chunked.Release()
		}},
		{"head and small body written", func() {
			must(responses.ReadResponse(&p, "GET"))
			_, err := p.Body.Drain(100)
			must(err)
			w.Reset(sink)
			header()
			w.Length(int64(len(small)))
			must(w.Finish(small))
			w.Release()
			responses.Release()
		}},
		{"chunks and trailers written", func() {
			w.Reset(sink)
			w.Response(200, "OK", "GET")
			w.Chunked()
			_, err := w.Write(large)
			must(err)
			w.Trailer("T", "v")
			must(w.Finish(small))
			w.Release()
		}},
		{"over a socket", func() {
			_, err := a.Write(request)
			must(err)
			must(socket.WaitReadable())
			must(socket.ReadRequest(&q))
			socket.Release()
		}},
		{"a deadline", func() {
			deadline.Arm(time.Second)
			deadline.Disarm()
		}},
		{"the pool", func() {
			c := pool.Get("k", now)
			if c == nil || !pool.Put("k", c, now) {
				t.Fatal("the connection is lost")
			}
		}},
	} {
		c.run()
		if n := testing.AllocsPerRun(200, c.run); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	// Several pieces in one system call, read away by the other end.
	done := make(chan struct{})
	go func() {
		defer close(done)
		sink := make([]byte, 64<<10)
		for {
			if _, err := a.Read(sink); err != nil {
				return
			}
		}
	}()
	vectored := func() {
		w.Reset(socket)
		w.Response(200, "OK", "GET")
		w.Chunked()
		must(w.Finish(large))
		w.Release()
	}
	vectored()
	if n := testing.AllocsPerRun(200, vectored); n != 0 {
		t.Errorf("pieces over a socket: %v allocations", n)
	}
	_ = socket.Close()
	<-done
}
