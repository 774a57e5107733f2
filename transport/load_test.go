package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// A boundedWorld is a service over connections in memory, whose answers take the time that the query names.
type boundedWorld struct {
	rig    *rig
	mu     sync.Mutex
	open   map[string]int // connections, by endpoint
	peak   int
	dialed int
}

func newBounded(t *testing.T, limits resilience.Limits, dials func(addr string) error, addrs ...string) *boundedWorld {
	t.Helper()
	b := &boundedWorld{open: make(map[string]int)}
	leaves := NewLeaves(func(ctx context.Context, _, addr string) (net.Conn, error) {
		if dials != nil {
			if err := dials(addr); err != nil {
				return nil, err
			}
		}
		client, server := net.Pipe()
		b.count(addr, 1)
		go b.serve(server)
		return &endingConn{Conn: client, closed: sync.OnceFunc(func() { b.count(addr, -1) })}, nil
	}, nil)
	b.rig = newRig(t, snapshot.HTTP1, leaves, addrs...)
	b.rig.route.Retry = nil
	b.rig.publish(t, snapshot.Policy{Protocol: snapshot.HTTP1, Limits: limits})
	t.Cleanup(func() {
		b.rig.engine.Close()
		time.Sleep(2 * time.Hour) // the servers' answers that nobody waits for
		if n := b.connections(); n != 0 {
			t.Errorf("%d connections stay open", n)
		}
	})
	return b
}

func (b *boundedWorld) count(addr string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[addr] += n
	b.dialed += max(n, 0)
	total := 0
	for _, n := range b.open {
		total += n
	}
	b.peak = max(b.peak, total)
}

// counts gives the most connections at a time, and all that there were.
func (b *boundedWorld) counts() (peak, dialed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peak, b.dialed
}

func (b *boundedWorld) connections() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.open {
		n += m
	}
	return n
}

// An endingConn tells of its end.
type endingConn struct {
	net.Conn
	closed func()
}

func (c *endingConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func (b *boundedWorld) serve(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		d, _ := time.ParseDuration(req.URL.RawQuery)
		time.Sleep(d)
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
		if req.URL.Path == "/last" {
			return
		}
	}
}

// get makes one call that the endpoint takes d to answer.
func (b *boundedWorld) get(ctx context.Context, d time.Duration) error {
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://svc/?"+d.String(), nil)
	resp, err := b.rig.rt.RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return err
}

func overflows(err error) bool { return call.ReasonOf(err) == call.ReasonOverflow }

// TestMaxConnections: many calls share as many connections as there may be, and none fails.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			b := newBounded(t, resilience.Limits{Connections: most}, nil, "10.0.0.1:80", "10.0.0.2:80")
			var wg sync.WaitGroup
			for range 30 {
				wg.Go(func() {
					for range 10 {
						if err := b.get(t.Context(), time.Second); err != nil {
							t.Error(err)
						}
					}
				})
			}
			began := time.Now()
			wg.Wait()
			if peak, _ := b.counts(); peak != most || time.Since(began) != 300*time.Second/time.Duration(most) {
				t.Errorf("%d connections at a time, want %d; took %v", peak, most, time.Since(began))
			}
		})
	}
}

// TestMaxPending: Istio's task on circuit breaking: what comes beyond one connection and one that waits for it overflows.
func TestMaxPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBounded(t, resilience.Limits{Connections: 1, Pending: 1}, nil, "10.0.0.1:80")
		if err := b.get(t.Context(), 0); err != nil { // the connection is there
			t.Fatal(err)
		}
		var served, overflown atomic.Int32
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				var info CallInfo
				began := time.Now()
				switch err := b.get(Capture(t.Context(), &info), time.Minute); {
				case err == nil:
					served.Add(1)
				case overflows(err):
					overflown.Add(1)
					if time.Since(began) != 0 || info.Details != "upstream_reset_before_response_started{overflow}" || info.Attempts != 1 {
						t.Errorf("after %v: %+v", time.Since(began), info.Details)
					}
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if served.Load() != 2 || overflown.Load() != 3 {
			t.Errorf("%d served, %d overflown", served.Load(), overflown.Load())
		}
		for _, c := range b.rig.engine.state.Load().clusters { // one of them has waited
			if n := c.records.load.connections.overflow.Load(); n != 1 {
				t.Errorf("upstream_cx_overflow is %d", n)
			}
		}
	})
}

// TestMaxRequests: http2MaxRequests bounds what is under way, bodies that are still read among it.
func TestMaxRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBounded(t, resilience.Limits{Requests: 2}, nil, "10.0.0.1:80")
		var held []*http.Response
		for range 2 {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://svc/", nil)
			resp, err := b.rig.rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, resp)
		}
		err := b.get(t.Context(), 0)
		if !overflows(err) || !strings.Contains(err.Error(), "http2MaxRequests") {
			t.Error(err)
		}
		_ = held[0].Body.Close()
		if err := b.get(t.Context(), 0); err != nil {
			t.Error(err)
		}
		_ = held[1].Body.Close()
		for range 3 { // a call without an endpoint gives back what it took
			b.rig.registry.Publish(key, nil)
			publish(b.rig.registry)
			if err := b.get(t.Context(), 0); call.ReasonOf(err) != call.ReasonNoEndpoint {
				t.Error(err)
			}
		}
	})
}

// TestWaitingEnds: a call that waits for a connection ends with its context, and what it was about to get is another's.
func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBounded(t, resilience.Limits{Connections: 1, Pending: 2}, nil, "10.0.0.1:80")
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := b.get(t.Context(), time.Minute); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 50 { // those that give up leave room for others
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := b.get(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		if err := b.get(t.Context(), 0); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if load := b.rig.engine.clusters["outbound|80||svc"].load; load.Pending.Active() != 0 || load.waiters.Load() != 0 || load.Connections.Active() != 1 {
			t.Errorf("%d pending, %d wait, %d connections", load.Pending.Active(), load.waiters.Load(), load.Connections.Active())
		}
	})
}

// TestWaitingRace: calls that give up at the moment when a connection becomes free lose none.
func TestWaitingRace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBounded(t, resilience.Limits{Connections: 2}, nil, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				for j := range 20 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(i+j)%7)*time.Second)
					if err := b.get(ctx, time.Second); err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					cancel()
				}
			})
		}
		wg.Wait()
		for range 3 {
			if err := b.get(t.Context(), 0); err != nil {
				t.Error(err)
			}
		}
		if peak, _ := b.counts(); peak > 2 {
			t.Errorf("%d connections at a time", peak)
		}
	})
}

// TestFailedConnectionsCountNoMore: neither those that could not be opened nor those that ended.
func TestFailedConnectionsCountNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fail := true
		b := newBounded(t, resilience.Limits{Connections: 1, Pending: 1}, func(string) error {
			if fail {
				return errors.New("no")
			}
			return nil
		}, "10.0.0.1:80")
		for range 3 {
			if err := b.get(t.Context(), 0); call.ReasonOf(err) != call.ReasonConnect {
				t.Error(err)
			}
		}
		fail = false
		for range 3 { // each gives up on an answer, and its connection with it
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := b.get(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		if err := b.get(t.Context(), 0); err != nil {
			t.Error(err)
		}
	})
}

// TestWaitedForTheDead: who has waited and is given a connection that has ended meanwhile is not refused because others wait by now, and goes first.
func TestWaitedForTheDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBounded(t, resilience.Limits{Connections: 1, Pending: 1}, nil, "10.0.0.1:80")
		load := b.rig.engine.clusters["outbound|80||svc"].load
		var others sync.WaitGroup
		others.Go(func() {
			resp, err := b.rig.client.Get("http://svc/last")
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(2 * time.Second) // the endpoint has gone by then, and somebody waits
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		})
		time.Sleep(time.Second)
		var mu sync.Mutex
		var order []string
		ask := func(ctx context.Context, name string) {
			err := b.get(ctx, time.Second)
			mu.Lock()
			defer mu.Unlock()
			if order = append(order, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		tries := 0
		trace := &httptrace.ClientTrace{GetConn: func(string) {
			if tries++; tries == 2 { // one has the connection by now, one waits
				others.Go(func() { ask(t.Context(), "second") })
				for load.Connections.Active() == 0 || load.Pending.Active() > 0 {
					runtime.Gosched()
				}
				others.Go(func() { ask(t.Context(), "third") })
				for load.Pending.Active() == 0 {
					runtime.Gosched()
				}
			}
		}}
		ask(httptrace.WithClientTrace(t.Context(), trace), "first")
		others.Wait()
		if want := []string{"second", "first", "third"}; tries != 2 || !slices.Equal(order, want) {
			t.Errorf("%q after %d tries, want %q", order, tries, want)
		}
		if n := load.Pending.Active(); n != 0 {
			t.Errorf("%d wait at the end", n)
		}
	})
}

// TestIdleMakesRoom: the one connection that there may be goes where it is needed.
func TestIdleMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBounded(t, resilience.Limits{Connections: 1}, nil, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
		b.rig.route.Split = []routing.Destination{{Cluster: "outbound|80||svc"}}
		for range 40 {
			if err := b.get(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		if peak, dialed := b.counts(); peak != 1 || dialed < 3 {
			t.Errorf("%d at a time, %d dialled", peak, dialed)
		}
	})
}

// TestLimitsChange: another configuration counts what goes on.
func TestLimitsChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBounded(t, resilience.Limits{Connections: 2}, nil, "10.0.0.1:80")
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := b.get(t.Context(), time.Minute); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		b.rig.publish(t, snapshot.Policy{Protocol: snapshot.HTTP1, Limits: resilience.Limits{Connections: 1, Pending: 1}})
		wg.Go(func() {
			if err := b.get(t.Context(), 0); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if err := b.get(t.Context(), 0); !overflows(err) {
			t.Error(err)
		}
		wg.Wait()
		if peak, _ := b.counts(); peak != 2 {
			t.Errorf("%d at a time", peak)
		}
	})
}

// TestMaxRequestsPerConnection: as many as may be, the last of which says so.
func TestMaxRequestsPerConnection(t *testing.T) {
	t.Parallel()
	u := newRawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
	r := newRig(t, snapshot.HTTP1, nil, u.addr)
	r.publish(t, snapshot.Policy{Protocol: snapshot.HTTP1, Connections: snapshot.Connections{MaxRequests: 3}})
	for range 7 {
		resp, err := r.client.Get("http://svc/")
		if err != nil {
			t.Fatal(err)
		}
		_ = body(t, resp)
	}
	var last []string
	for _, s := range u.seen {
		last = append(last, fmt.Sprint(strings.Contains(s, "Connection: close")))
	}
	if got := strings.Join(last, " "); u.conns != 3 || got != "false false true false false true false" {
		t.Errorf("%d connections, %s", u.conns, got)
	}
}
