package conformance

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
)

// A Driver is one way to send a request through a mesh.
type Driver interface {
	Name() string
	// Adapt gives the row in the form in which the driver can run it, or why it cannot.
	Adapt(c Case) (adapted Case, except string)
	// Do makes the case's calls, one after the other, and says what came out of each: the caller's side
	// joined with the upstreams' (Network.Seen).
	Do(t testing.TB, c *Case, b *Bench) []Result
}

// A Bench is the mesh of one case and the network it stands in.
type Bench struct {
	Mesh *mesh.Mesh
	Net  *Network
}

// seed makes the weighted and random rows give the same figures in every run.
const seed = 20260801

// hung is how long one call may take before its row fails.
const hung = 3 * time.Second

// patience is hung on the row's clock, or the caller's own deadline.
func (c *Case) patience() time.Duration {
	switch {
	case c.Request.Deadline > 0:
		return c.Request.Deadline
	case c.Fake:
		return 24 * time.Hour
	}
	return hung
}

// settle waits for what goes on after a call.
func (c *Case) settle() {
	if c.Fake {
		synctest.Wait()
	}
}

// joinedBy adds the caller's side of a call to what its upstreams saw.
func joinedBy(c *Case, r, answer Result) Result {
	r.Status, r.GRPC, r.Flag, r.Cookie = answer.Status, answer.GRPC, answer.Flag, answer.Cookie
	r.Answer, r.Text, r.unsaid = answer.Answer, answer.Text, answer.unsaid
	if c.Fake {
		r.Took = answer.Took
	}
	return r
}

// tell adds what the mesh says of a call.
func tell(r *Result, info *mesh.CallInfo) {
	r.Route, r.Cluster, r.Attempts, r.Flags, r.Details = info.Route, info.Cluster, info.Attempts, info.Flags, info.Details
}

// NewBench starts the case's upstreams and its mesh, under the mutation where there is one. They end with
// the test. opts are options that the drivers' meshes differ in.
func NewBench(t testing.TB, c *Case, m *Mutation, opts ...mesh.Option) *Bench {
	t.Helper()
	n := NewNetwork(t, c.Upstream)
	documents := n.files(m.config(c.Config))
	through := &http.Transport{DialContext: n.Dial}
	msh, err := mesh.New(context.Background(), append(slices.Clip(opts),
		mesh.WithConfig([]byte(documents)),
		mesh.WithWorkload(c.Workload),
		mesh.WithOutboundTrafficPolicy(m.outbound(c.Outbound)),
		mesh.WithPreset(c.Preset),
		mesh.WithDialer(n.Dial),
		mesh.WithResolver(n),
		mesh.WithPassthrough(through),
		mesh.WithSeed(seed),
		mesh.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		t.Fatalf("new mesh: %v\n%s", err, c.Config)
	}
	t.Cleanup(func() {
		_ = msh.Close()
		through.CloseIdleConnections()
	})
	if err := m.publish(msh.Engine()); err != nil {
		t.Fatalf("publish mutation %q: %v", m.Name, err)
	}
	return &Bench{Mesh: msh, Net: n}
}

// HTTP drives the mesh as an http.RoundTripper, the way programs with net/http do.
type HTTP struct {
	// Transport has HTTP/1.1 go over net/http's own Transport (mesh.WithNetHTTPTransport).
	Transport bool
}

// Name implements Driver.
func (d HTTP) Name() string {
	if d.Transport {
		return "net/http over its own transport"
	}
	return "net/http"
}

// Options gives what the driver's mesh is made with.
func (d HTTP) Options() []mesh.Option {
	if d.Transport {
		return []mesh.Option{mesh.WithNetHTTPTransport()}
	}
	return nil
}

// Adapt implements Driver: the rows are written for it.
func (HTTP) Adapt(c Case) (Case, string) { return c, c.Except[HTTP{}.Name()] }

// Do implements Driver.
func (HTTP) Do(t testing.TB, c *Case, b *Bench) []Result {
	t.Helper()
	rt := b.Mesh.RoundTripper()
	results := make([]Result, max(c.Repeat, 1))
	for i := range results {
		var info mesh.CallInfo
		ctx, cancel := context.WithTimeout(context.Background(), c.patience())
		req, err := c.request(i).http(mesh.Capture(ctx, &info))
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		b.Net.Begin()
		answer := roundTrip(rt, req)
		cancel()
		c.settle()
		r := joinedBy(c, b.Net.Seen(), answer)
		tell(&r, &info)
		if r.Flag != "-" {
			r.Endpoint = "" // some upstream may have seen the request, none answered
		}
		results[i] = r
	}
	return results
}

// http makes the request as a caller would.
func (r *Request) http(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	switch {
	case r.Stream:
		body = struct{ io.Reader }{strings.NewReader(r.Body)}
	case r.Body != "":
		body = strings.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, body)
	if err != nil {
		return nil, err
	}
	req.Host = r.Host
	if r.Host == "" {
		req.Host = req.URL.Host
	}
	if r.Header != nil {
		req.Header = r.Header.Clone()
	}
	return req, nil
}

// target gives the parts of an http URL, the path as it is written there.
func target(url string) (authority, path string) {
	rest, ok := strings.CutPrefix(url, "http://")
	if !ok {
		return "", ""
	}
	if i := strings.Index(rest, "/"); i >= 0 {
		return rest[:i], rest[i:]
	}
	return rest, ""
}

// roundTrip makes one call and gives the caller's side of it.
func roundTrip(rt http.RoundTripper, req *http.Request) Result {
	began := time.Now()
	resp, err := rt.RoundTrip(req)
	var rejected *mesh.Error
	switch {
	case errors.As(err, &rejected):
		return Result{Status: rejected.HTTPStatus(), Flag: rejected.Flag(), Took: time.Since(began)}
	case err != nil:
		return Result{Flag: "not an error of the mesh: " + err.Error()}
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	r := Result{Status: resp.StatusCode, Flag: "-", Cookie: cookieOf(resp.Header["Set-Cookie"]), Answer: resp.Header, Text: string(body),
		Took: time.Since(began)}
	switch {
	case errors.As(err, &rejected):
		r.Flag = rejected.Flag()
	case err != nil:
		r.Flag = cutOff
	}
	r.unsaid = true
	for _, h := range []http.Header{resp.Header, resp.Trailer} {
		if s := h.Get("Grpc-Status"); s != "" {
			r.unsaid = false
			r.GRPC, _ = strconv.Atoi(s)
		}
	}
	return r
}

// cutOff stands for a flag where the caller's answer breaks off.
const cutOff = "body cut off"

// cookieOf gives the first cookie that an answer makes, with "?" for its value.
func cookieOf(set []string) string {
	if len(set) == 0 {
		return ""
	}
	pair, attributes, _ := strings.Cut(set[0], ";")
	name, value, _ := strings.Cut(pair, "=")
	if value != "" {
		value = "?"
	}
	return name + "=" + value + ";" + attributes
}
