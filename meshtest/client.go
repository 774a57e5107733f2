package meshtest

import (
	"context"
	"maps"
	"net/http"
	"time"

	"github.com/heddlemesh/mesh"
)

// A record is what an Env knows of one call. Env.mu guards what changes.
type record struct {
	method, url string
	header      http.Header
	decision    mesh.Decision // made just before the call
	undecided   error         // why there is none
	files       files         // that it speaks of
	began       time.Time
	from, to    int // the network's events meanwhile

	rpc    bool // made on a channel of Env.Dial: the status is gRPC's
	done   bool
	took   time.Duration
	status int
	err    error
	info   *mesh.CallInfo // empty where the caller had a mesh.Capture of its own
}

// begin writes down that a call begins. Over gRPC the request is what it becomes on the wire.
func (e *Env) begin(req *http.Request, rpc bool) *record {
	r := &record{rpc: rpc, method: req.Method, header: maps.Clone(req.Header), began: time.Now(), info: new(mesh.CallInfo)}
	if r.method == "" {
		r.method = http.MethodGet
	}
	if req.URL != nil {
		r.url = req.URL.String()
	}
	r.decision, r.undecided = e.mesh.Explain(req)
	r.files = e.world.names()
	r.from = e.world.net.now()
	e.mu.Lock()
	e.last = r
	e.mu.Unlock()
	return r
}

// end writes down how a call has ended; only the first time counts.
func (e *Env) end(r *record, status int, err error) {
	to := e.world.net.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !r.done {
		r.done, r.to, r.took, r.status, r.err = true, to, time.Since(r.began), status, err
	}
}

// under gives the context of a recorded call. What a test leaves under way, a body that nobody closes among
// it, ends with the test.
func (e *Env) under(ctx context.Context, r *record) context.Context {
	ctx, cancel := context.WithCancel(fallback{ctx, mesh.Capture(context.Background(), r.info)})
	context.AfterFunc(e.world.ctx, cancel)
	return ctx
}

// transport is the client's side of an Env: the mesh, with every call written down.
type transport struct {
	env  *Env
	next http.RoundTripper
}

type recordKey struct{}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	e := t.env
	r := e.begin(req, false)
	if slot, ok := req.Context().Value(recordKey{}).(**record); ok {
		*slot = r
	}
	sent := req.WithContext(e.under(req.Context(), r))
	resp, err := t.next.RoundTrip(sent)
	if resp != nil && resp.Request == sent {
		resp.Request = req
	}
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	e.end(r, status, err)
	return resp, err
}

// CloseIdleConnections makes http.Client.CloseIdleConnections work.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// A fallback has the values of two contexts, the first one's before the second's. So a mesh.Capture that the
// caller has set keeps working, and there is another where it has not.
type fallback struct {
	context.Context
	values context.Context
}

func (f fallback) Value(key any) any {
	if v := f.Context.Value(key); v != nil {
		return v
	}
	return f.values.Value(key)
}
