package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/snapshot"
)

// A framedWorld is a service over HTTP/2 in memory, frame by frame, whose answers take the time that the query names.
type framedWorld struct {
	rig     *rig
	streams uint32 // SETTINGS_MAX_CONCURRENT_STREAMS
	goAway  int    // requests of a connection after which it goes away, 0 for never
	refuse  bool   // every stream
	hangUp  bool   // at the second request of a connection, without a word
	fails   atomic.Bool

	mu     sync.Mutex
	seen   map[string]int // requests taken, by path
	open   int
	peak   int // connections at a time
	dialed int
	most   int // streams of a connection at a time
}

// start begins the service, for one test in a bubble.
func (w *framedWorld) start(t *testing.T, p snapshot.Policy, addrs ...string) {
	t.Helper()
	w.seen = make(map[string]int)
	leaves := NewLeaves(func(context.Context, string, string) (net.Conn, error) {
		if w.fails.Load() {
			time.Sleep(time.Second)
			return nil, errors.New("no")
		}
		client, server := net.Pipe()
		w.count(1)
		go w.serve(server)
		return &endingConn{Conn: client, closed: sync.OnceFunc(func() { w.count(-1) })}, nil
	}, nil)
	w.rig = newRig(t, snapshot.HTTP2, leaves, addrs...)
	p.Protocol = snapshot.HTTP2
	w.rig.publish(t, p)
	t.Cleanup(func() {
		w.rig.engine.Close()
		time.Sleep(2 * time.Hour)
		if open, _, _, _ := w.counts(); open != 0 {
			t.Errorf("%d connections stay open", open)
		}
	})
}

func (w *framedWorld) count(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open += n
	w.dialed += max(n, 0)
	w.peak = max(w.peak, w.open)
}

func (w *framedWorld) counts() (open, peak, dialed, most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open, w.peak, w.dialed, w.most
}

// A framedConn is the service's end of a connection.
type framedConn struct {
	world  *framedWorld
	framer *http2.Framer
	out    chan func() // writes, by one goroutine
	ended  chan struct{}
	under  map[uint32]bool // streams; guarded by world.mu
	taken  int
	gone   bool
}

func (w *framedWorld) serve(nc net.Conn) {
	c := &framedConn{world: w, framer: http2.NewFramer(nc, nc), out: make(chan func(), 1<<14), ended: make(chan struct{}), under: make(map[uint32]bool)}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	defer nc.Close()
	defer close(c.ended)
	go func() {
		for {
			select {
			case f := <-c.out:
				f()
			case <-c.ended:
				return
			}
		}
	}()
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	c.out <- func() {
		_ = c.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: w.streams})
	}
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if !c.request(f) {
				return
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.out <- func() { _ = c.framer.WriteSettingsAck() }
			}
		case *http2.RSTStreamFrame:
			c.over(f.StreamID)
		case *http2.PingFrame:
			if data := f.Data; !f.IsAck() {
				c.out <- func() { _ = c.framer.WritePing(true, data) }
			}
		}
	}
}

// request takes a request, or does not.
func (c *framedConn) request(f *http2.MetaHeadersFrame) bool {
	w, id := c.world, f.StreamID
	path, query, _ := strings.Cut(f.PseudoValue("path"), "?")
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hangUp && c.taken > 0 {
		w.seen[path]++
		return false
	}
	if c.gone {
		return true // RFC 9113 §6.8: it is ignored
	}
	if w.goAway > 0 && c.taken == w.goAway {
		c.gone = true
		c.out <- func() { _ = c.framer.WriteGoAway(id-1, http2.ErrCodeNo, nil) }
		return true
	}
	if w.refuse || len(c.under) >= int(w.streams) {
		w.seen["refused"]++
		c.out <- func() { _ = c.framer.WriteRSTStream(id, http2.ErrCodeRefusedStream) }
		return true
	}
	w.seen[path]++
	c.taken++
	c.under[id] = true
	w.most = max(w.most, len(c.under))
	go c.answer(id, query)
	return true
}

func (c *framedConn) answer(id uint32, query string) {
	d, _ := time.ParseDuration(query)
	time.Sleep(d)
	var b bytes.Buffer
	_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	if !c.over(id) {
		return
	}
	select {
	case c.out <- func() {
		_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true})
		_ = c.framer.WriteData(id, true, []byte("ok"))
	}:
	case <-c.ended:
	}
}

// over ends a stream. It reports whether it was open.
func (c *framedConn) over(id uint32) bool {
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	was := c.under[id]
	delete(c.under, id)
	return was
}

// send makes one call that the endpoint takes d to answer.
func (w *framedWorld) send(ctx context.Context, method, path string, d time.Duration) error {
	var b io.Reader
	if method == http.MethodPost {
		b = io.NopCloser(strings.NewReader("a body")) // which can be read once
	}
	req, _ := http.NewRequestWithContext(ctx, method, "http://svc"+path+"?"+d.String(), b)
	resp, err := w.rig.rt.RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return err
}

// TestHTTP2Streams: as many connections as the streams need, no stream too many, and no failure.
func TestHTTP2Streams(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		streams      uint32
		calls, conns int
	}{{1, 30, 30}, {7, 30, 5}, {100, 90, 1}, {100, 250, 3}, {1000, 250, 3}} {
		t.Run(fmt.Sprint(c.streams, " ", c.calls), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &framedWorld{streams: c.streams}
				w.start(t, snapshot.Policy{}, "10.0.0.1:80")
				w.rig.route.Retry = nil
				for range 3 {
					var wg sync.WaitGroup
					began := time.Now()
					for range c.calls {
						wg.Go(func() {
							if err := w.send(t.Context(), "GET", "/", time.Second); err != nil {
								t.Error(err)
							}
						})
					}
					wg.Wait()
					synctest.Wait()
					if took := time.Since(began); took != time.Second {
						t.Errorf("took %v", took)
					}
				}
				if _, peak, dialed, most := w.counts(); dialed > c.conns || peak > c.conns || most > int(c.streams) || w.seen["refused"] > 0 {
					t.Errorf("%d connections, want %d; %d streams on one, %d refused", dialed, c.conns, most, w.seen["refused"])
				}
			})
		})
	}
}

// TestHTTP2MaxConnections: what finds no stream waits for one; an endpoint without a connection gets one.
func TestHTTP2MaxConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &framedWorld{streams: 2}
		w.start(t, snapshot.Policy{Limits: resilience.Limits{Connections: 2}}, "10.0.0.1:80")
		var wg sync.WaitGroup
		began := time.Now()
		for range 40 {
			wg.Go(func() {
				if err := w.send(t.Context(), "POST", "/", time.Second); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		if err := w.send(ctx, "GET", "/late", 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
		wg.Wait()
		if _, peak, _, _ := w.counts(); peak != 2 || time.Since(began) != 10*time.Second || w.seen["/late"] > 0 {
			t.Errorf("%d connections, %v", peak, time.Since(began))
		}
		w.rig.publish(t, snapshot.Policy{Protocol: snapshot.HTTP2, Limits: resilience.Limits{Connections: 1}})
		publish(w.rig.registry, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
		for range 30 {
			wg.Go(func() {
				if err := w.send(t.Context(), "GET", "/", time.Second); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if _, peak, _, _ := w.counts(); peak > 4 { // with one that was in use at the time of the change
			t.Errorf("%d connections of three endpoints", peak)
		}
		load := w.rig.engine.clusters["outbound|80||svc"].load
		if load.Pending.Active() != 0 || load.waiters.Load() != 0 {
			t.Errorf("%d pending, %d wait", load.Pending.Active(), load.waiters.Load())
		}
		w.rig.publish(t, snapshot.Policy{Protocol: snapshot.HTTP2, Limits: resilience.Limits{Connections: 9}})
		w.rig.rt.CloseIdleConnections()
		synctest.Wait()
		if open, _, _, _ := w.counts(); open != 0 || load.Connections.Active() != 0 {
			t.Errorf("%d connections, %d counted", open, load.Connections.Active())
		}
	})
}

// TestHTTP2MaxPending: http1MaxPendingRequests holds for HTTP/2 too.
func TestHTTP2MaxPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &framedWorld{streams: 1}
		w.start(t, snapshot.Policy{Limits: resilience.Limits{Connections: 1, Pending: 1}}, "10.0.0.1:80")
		if err := w.send(t.Context(), "GET", "/", 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var served, overflown atomic.Int32
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				switch err := w.send(t.Context(), "GET", "/", time.Minute); {
				case err == nil:
					served.Add(1)
				case overflows(err):
					overflown.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if served.Load() != 2 || overflown.Load() != 3 {
			t.Errorf("%d served, %d overflown", served.Load(), overflown.Load())
		}
	})
}

// TestHTTP2GoAway: connections go away under load. Nothing fails, nothing is taken twice.
func TestHTTP2GoAway(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "POST"} {
		synctest.Test(t, func(t *testing.T) {
			w := &framedWorld{streams: 100, goAway: 50}
			w.start(t, snapshot.Policy{}, "10.0.0.1:80")
			retry := resilience.DefaultRetry()
			retry.Attempts = 5
			w.rig.route.Retry = &retry
			w.rig.publish(t, snapshot.Policy{Protocol: snapshot.HTTP2})
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					for j := range 50 {
						if err := w.send(t.Context(), method, fmt.Sprint("/", i, "/", j), time.Duration(1+(i*j)%5)*time.Second); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			for path, n := range w.seen {
				if n > 1 {
					t.Errorf("%s was taken %d times", path, n)
				}
			}
			if len(w.seen) != 1000 || w.dialed < 20 || w.dialed > 40 {
				t.Errorf("%d taken over %d connections", len(w.seen), w.dialed)
			}
		})
	}
}

// TestHTTP2Refused: what an endpoint refused is repeated by the engine's decision alone.
func TestHTTP2Refused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method string
		retry  bool
		want   int
	}{
		"GET, no retries":  {"GET", false, 1},
		"POST, no retries": {"POST", false, 1},
		"GET, retries":     {"GET", true, 3},
		"POST, retries":    {"POST", true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &framedWorld{streams: 100, refuse: true}
				w.start(t, snapshot.Policy{}, "10.0.0.1:80")
				if !c.retry {
					w.rig.route.Retry = nil
					w.rig.publish(t, snapshot.Policy{Protocol: snapshot.HTTP2})
				}
				if err := w.send(t.Context(), c.method, "/", 0); call.ReasonOf(err) != call.ReasonRefused {
					t.Error(err)
				}
				if n := w.seen["refused"]; n != c.want {
					t.Errorf("sent %d times, want %d", n, c.want)
				}
			})
		})
	}
}

// TestHTTP2StaleReuse: a kept connection that turns out dead is repeated once if the method lets it.
func TestHTTP2StaleReuse(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]int{"GET": 2, "POST": 1} {
		synctest.Test(t, func(t *testing.T) {
			w := &framedWorld{streams: 100, hangUp: true}
			w.start(t, snapshot.Policy{}, "10.0.0.1:80")
			w.rig.route.Retry = nil
			w.rig.publish(t, snapshot.Policy{Protocol: snapshot.HTTP2})
			if err := w.send(t.Context(), "GET", "/warm", 0); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			err := w.send(t.Context(), method, "/it", 0)
			if (err == nil) != (want == 2) || w.seen["/it"] != want {
				t.Errorf("%s was sent %d times: %v", method, w.seen["/it"], err)
			}
			if err != nil && call.ReasonOf(err) != call.ReasonReset {
				t.Error(err)
			}
		})
	}
}

// TestHTTP2DeadBeforeTheRequest: a connection that ends before a request begins on it is one that was reset, as where that is
// seen a moment later. A kept one costs no request, whatever the method: nothing was sent.
func TestHTTP2DeadBeforeTheRequest(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{true, false} {
		for _, method := range []string{"GET", "POST"} {
			synctest.Test(t, func(t *testing.T) {
				w := &framedWorld{streams: 100}
				w.start(t, snapshot.Policy{}, "10.0.0.1:80")
				w.rig.route.Retry = nil
				w.rig.publish(t, snapshot.Policy{Protocol: snapshot.HTTP2})
				if kept {
					if err := w.send(t.Context(), "GET", "/warm", 0); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				ends := 0
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
					if info.Reused == kept {
						ends++
						_ = info.Conn.Close()
						synctest.Wait()
					}
				}})
				err := w.send(ctx, method, "/it", 0)
				switch {
				case ends != 1:
					t.Errorf("%s: %d connections were ended", method, ends)
				case kept && (err != nil || w.seen["/it"] != 1):
					t.Errorf("%s on a kept connection: %d times, %v", method, w.seen["/it"], err)
				case !kept && (call.ReasonOf(err) != call.ReasonReset || w.seen["/it"] != 0):
					t.Errorf("%s on a new connection: %d times, %v", method, w.seen["/it"], err)
				}
			})
		}
	}
}

// TestHTTP2MaxRequestsPerConnection: each connection takes as many as may be, at a time or one after another.
func TestHTTP2MaxRequestsPerConnection(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			w := &framedWorld{streams: 100}
			w.start(t, snapshot.Policy{Connections: snapshot.Connections{MaxRequests: most}}, "10.0.0.1:80")
			var wg sync.WaitGroup
			for range 30 {
				wg.Go(func() {
					if err := w.send(t.Context(), "GET", "/", time.Second); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for range 30 {
				if err := w.send(t.Context(), "GET", "/", 0); err != nil {
					t.Error(err)
				}
			}
			synctest.Wait()
			if open, _, dialed, m := w.counts(); dialed != 60/most || m > most || open != 0 {
				t.Errorf("%d connections, %d of them open, %d streams on one", dialed, open, m)
			}
		})
	}
}

// TestHTTP2Age: a connection of age takes no more, and lets its streams end.
func TestHTTP2Age(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &framedWorld{streams: 100}
		w.start(t, snapshot.Policy{Connections: snapshot.Connections{MaxAge: 10 * time.Second}}, "10.0.0.1:80")
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.send(t.Context(), "GET", "/slow", time.Minute); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(11 * time.Second)
		if err := w.send(t.Context(), "GET", "/", 0); err != nil {
			t.Error(err)
		}
		if open, _, dialed, _ := w.counts(); open != 2 || dialed != 2 {
			t.Errorf("%d connections, %d open", dialed, open)
		}
		wg.Wait()
		synctest.Wait()
		if open, _, _, _ := w.counts(); open != 1 {
			t.Errorf("%d open after the last stream", open)
		}
	})
}

// TestHTTP2Unreachable: who waits for a connection that cannot be made fails with who makes it.
func TestHTTP2Unreachable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &framedWorld{streams: 100}
		w.fails.Store(true)
		w.start(t, snapshot.Policy{}, "10.0.0.1:80")
		w.rig.route.Retry = nil
		w.rig.publish(t, snapshot.Policy{Protocol: snapshot.HTTP2})
		began := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := w.send(t.Context(), "GET", "/", 0); call.ReasonOf(err) != call.ReasonConnect {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
		w.fails.Store(false)
		if err := w.send(t.Context(), "GET", "/", 0); err != nil {
			t.Error(err)
		}
	})
}

// TestHTTP2Cancellation: calls that give up at every moment leave no stream, no connection and no one's turn behind.
func TestHTTP2Cancellation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &framedWorld{streams: 3}
		w.start(t, snapshot.Policy{Limits: resilience.Limits{Connections: 2}}, "10.0.0.1:80", "10.0.0.2:80")
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				for j := range 20 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration((i+j)%9)*time.Second/2)
					if err := w.send(ctx, "POST", "/", time.Second); err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					cancel()
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second) // what was reset is answered
		for range 20 {
			wg.Go(func() {
				if err := w.send(t.Context(), "GET", "/", 0); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		load := w.rig.engine.clusters["outbound|80||svc"].load
		open, peak, _, _ := w.counts()
		// Both may be the one endpoint's when the other, which has none, gets one in any case.
		if peak > 2+1 || load.waiters.Load() != 0 || load.Connections.Active() != open || load.Requests.Active() != 0 {
			t.Errorf("%d connections, %d counted, %d wait, %d requests", peak, load.Connections.Active(), load.waiters.Load(), load.Requests.Active())
		}
	})
}

// TestUnsendableHTTP2: net/http's refusal of a request leaves no body open and no stream reserved.
func TestUnsendableHTTP2(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &framedWorld{streams: 1}
		w.start(t, snapshot.Policy{}, "10.0.0.1:80")
		for range 3 {
			closed := 0
			b := &closingBody{Reader: strings.NewReader("x"), closed: func() { closed++ }}
			req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://svc/", b)
			req.Header["Bad\n"] = []string{"x"}
			if _, err := w.rig.rt.RoundTrip(req); call.ReasonOf(err) != call.ReasonInvalidRequest {
				t.Error(err)
			}
			if closed != 1 {
				t.Errorf("the body was closed %d times", closed)
			}
			if err := w.send(t.Context(), "GET", "/", 0); err != nil {
				t.Error(err)
			}
		}
	})
}

type closingBody struct {
	io.Reader
	closed func()
}

func (b *closingBody) Close() error { b.closed(); return nil }
