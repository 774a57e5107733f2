package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// transports are what the behaviours are compared between: net/http itself is the yardstick.
var transports = []string{"bare", "net/http leaf", "own leaf"}

// newTransport makes one of them to the address.
func newTransport(t testing.TB, kind, addr string) http.RoundTripper {
	t.Helper()
	if kind == "bare" {
		tr := &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, &connectError{err}
			}
			return c, nil
		}}
		t.Cleanup(tr.CloseIdleConnections)
		return tr
	}
	leaves := NewLeaves(nil, nil)
	if kind == "net/http leaf" {
		leaves = NewNetHTTPLeaves(nil, nil)
	}
	leaf := leaves.Open(endpointAt(addr), snapshot.Policy{Protocol: snapshot.HTTP1}, new(Load))
	t.Cleanup(func() { leaves.Release(leaf) })
	return leaf.(http.RoundTripper)
}

// A rawUpstream reads requests and answers with bytes as they are.
type rawUpstream struct {
	addr string

	mu    sync.Mutex
	conns int
	seen  []string // the requests as they came
}

// newRawUpstream answers /again with 204, everything else with answer, after which it closes where cut says so.
func newRawUpstream(t testing.TB, answer string, cut bool) *rawUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &rawUpstream{addr: l.Addr().String()}
	var open sync.Map
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(c, nil)
			u.mu.Lock()
			u.conns++
			u.mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				u.serve(c, answer, cut)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Range(func(c, _ any) bool { return c.(net.Conn).Close() == nil || true })
		wg.Wait()
	})
	return u
}

func (u *rawUpstream) serve(c net.Conn, answer string, cut bool) {
	var raw bytes.Buffer
	br := bufio.NewReader(io.TeeReader(c, &raw))
	for {
		raw.Reset()
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, err = io.Copy(io.Discard, req.Body)
		if req.URL.Path == "/again" {
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			continue
		}
		u.mu.Lock()
		u.seen = append(u.seen, raw.String())
		u.mu.Unlock()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, answer)
		if cut {
			return
		}
	}
}

// wire gives the first request that came: its line, its header sorted, its body.
func (u *rawUpstream) wire() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.seen) == 0 {
		return "nothing"
	}
	head, body, _ := strings.Cut(u.seen[0], "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, " | ") + " || " + body
}

// tell writes an answer down in one line.
func tell(req *http.Request, resp *http.Response, err error) string {
	if err != nil {
		reason := call.ReasonOf(err)
		if reason == call.ReasonNone {
			o := classify(req.Context(), nil, err)
			reason = o.Reason
		}
		return "error " + reason.String() + kindOf(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", resp.Proto, resp.Status)
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		fmt.Fprintf(&b, " | %s: %s", name, strings.Join(resp.Header[name], ", "))
	}
	fmt.Fprintf(&b, " | %d", resp.ContentLength)
	if len(resp.TransferEncoding) > 0 {
		fmt.Fprintf(&b, " %v", resp.TransferEncoding)
	}
	if resp.Close {
		b.WriteString(" close")
	}
	if resp.Body == http.NoBody {
		b.WriteString(" none")
	}
	for _, name := range slices.Sorted(maps.Keys(resp.Trailer)) {
		fmt.Fprintf(&b, " announces %s", name)
	}
	body, err := io.ReadAll(resp.Body)
	fmt.Fprintf(&b, " || %s", body)
	if err != nil {
		b.WriteString(" cut:" + kindOf(err))
	}
	for _, name := range slices.Sorted(maps.Keys(resp.Trailer)) {
		fmt.Fprintf(&b, " | %s: %s", name, strings.Join(resp.Trailer[name], ", "))
	}
	_ = resp.Body.Close()
	return b.String()
}

// kindOf says what an error is by errors.Is.
func kindOf(err error) string {
	var kinds string
	for _, k := range []struct {
		is   error
		name string
	}{{io.EOF, "EOF"}, {io.ErrUnexpectedEOF, "unexpected EOF"}, {context.Canceled, "canceled"},
		{context.DeadlineExceeded, "deadline"}, {errOfBody, "the body's"}} {
		if errors.Is(err, k.is) {
			kinds += " " + k.name
		}
	}
	return kinds
}

var errOfBody = errors.New("the program's body fails")

// again tells whether a second request finds the connection.
func (u *rawUpstream) again(rt http.RoundTripper) string {
	u.mu.Lock()
	before := u.conns
	u.mu.Unlock()
	req, _ := http.NewRequest(http.MethodGet, "http://svc/again", nil)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return " >> then " + err.Error()
	}
	_ = resp.Body.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conns > before {
		return " >> new"
	}
	return " >> kept"
}

// An answerRow is a behaviour of net/http's client towards what an endpoint answers.
type answerRow struct {
	name   string
	method string // "" for GET
	answer string
	cut    bool // the endpoint closes after it
	more   bool // the endpoint sends more than the answer; whether net/http sees that in time is chance
	want   string
	// net is what net/http makes of it where that is something else, and why says why ours is right to differ.
	net, why string
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, row := range answerRows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for _, kind := range transports {
				want := row.want
				tries := 1
				if kind != "own leaf" {
					// net/http keeps no connection of which it has not heard within 50 ms that the request is written: that is for a slow machine.
					tries = 5
					if row.net != "" {
						want = row.net
					}
				}
				if kind != "own leaf" && row.more {
					want, _, _ = strings.Cut(want, " >> ")
				}
				got := ""
				for range tries {
					u := newRawUpstream(t, row.answer, row.cut)
					rt := newTransport(t, kind, u.addr)
					req, _ := http.NewRequest(row.method, "http://svc/", nil)
					resp, err := rt.RoundTrip(req)
					got = tell(req, resp, err) + u.again(rt)
					if kind != "own leaf" && row.more {
						got, _, _ = strings.Cut(got, " >> ")
					}
					if got == want {
						break
					}
				}
				if got != want {
					t.Errorf("%s:\n got %q\nwant %q", kind, got, want)
				}
			}
			if (row.net == "") != (row.why == "") || row.net == row.want {
				t.Error("a difference has a reason, and a reason a difference")
			}
		})
	}
}

// A requestRow is a behaviour of net/http's client towards a request.
type requestRow struct {
	name     string
	request  func(r *http.Request)
	want     string // on the wire, or the error
	net, why string
	bare     bool // net is true of net/http alone, not of our leaf over it
	chance   bool // what net/http alone tells is chance: which of its goroutines is heard first
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for _, row := range requestRows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for _, kind := range transports {
				if row.chance && kind == "bare" {
					continue
				}
				u := newRawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
				rt := newTransport(t, kind, u.addr)
				req, _ := http.NewRequest(http.MethodGet, "http://svc/", nil)
				row.request(req)
				resp, err := rt.RoundTrip(req)
				var got string
				if err != nil {
					got = tell(req, resp, err)
				} else {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					got = u.wire()
				}
				want := row.want
				if row.net != "" && kind != "own leaf" && !(row.bare && kind != "bare") {
					want = row.net
				}
				if got != want {
					t.Errorf("%s:\n got %q (%v)\nwant %q", kind, got, err, want)
				}
			}
			if (row.net == "") != (row.why == "") || row.net == row.want {
				t.Error("a difference has a reason, and a reason a difference")
			}
		})
	}
}

// body sets a request's body.
func withBody(r *http.Request, method string, body io.Reader, length int64) {
	r.Method, r.Body, r.ContentLength = method, io.NopCloser(body), length
}

// trickle is a body of whose reader nothing is known.
func trickle(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} }

func endpointAt(addr string) *discovery.Endpoint {
	return &discovery.Endpoint{Address: discovery.Address{Network: "tcp", Addr: addr}}
}
