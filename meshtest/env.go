package meshtest

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/heddlemesh/mesh"
)

// An Env is a test's mesh as one workload sees it. It is safe for concurrent use.
type Env struct {
	t        testing.TB
	world    *world
	workload mesh.Workload
	mesh     *mesh.Mesh
	client   *http.Client

	mu   sync.Mutex
	last *record // the call that began last
	told *record // the one whose story a failure has told
}

// Run calls f with a test's mesh in a testing/synctest bubble: time is fake and passes when every goroutine
// waits, so that a delay of 30 s costs none. When f returns the mesh ends, and so must every goroutine that
// f has started. In the bubble t.Run and t.Parallel cannot be used; the test itself may be parallel. Times
// begin at midnight UTC, 2000-01-01. A configuration that is refused ends the test.
func Run(t *testing.T, config Config, f func(t *testing.T, e *Env), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, New(t, config, opts...)) })
}

// New makes the same mesh on the real clock: for tests that need t.Run or real sockets beside it, and, called
// inside one, for a bubble of the caller's own. It ends with the test. A configuration that is
// refused ends the test.
func New(t testing.TB, config Config, opts ...Option) *Env {
	t.Helper()
	s := newSettings(opts)
	ctx, end := context.WithCancel(context.Background())
	w := &world{t: t, settings: s, net: new(network), ctx: ctx, end: end, services: make(map[string]*service)}
	docs, err := config.load()
	if err == nil && s.identities {
		w.authority, err = newAuthority()
	}
	if err != nil {
		end()
		t.Fatalf("meshtest: %v", err)
	}
	w.docs = docs
	w.declared.Store(&declared{docs: docs})
	t.Cleanup(w.close)
	return w.env(t, s.workload)
}

// env makes the mesh of one more workload.
func (w *world) env(t testing.TB, workload mesh.Workload) *Env {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &Env{t: t, world: w, workload: workload}
	texts, names := render(w.docs, w.services)
	w.files = names
	s, err := w.source(workload.Namespace, workload.ServiceAccount)
	if err != nil {
		t.Fatalf("meshtest: %v", err)
	}
	m, err := mesh.New(context.Background(), append(slices.Clone(w.settings.mesh),
		mesh.WithConfig(texts...),
		mesh.WithWorkload(workload),
		mesh.WithDialer(w.net.caller(e.unknown)),
		mesh.WithResolver(w.net),
		mesh.WithPassthrough(outside{e}),
		mesh.WithSeed(w.settings.seed),
		mesh.WithLogger(slog.New(slog.DiscardHandler)),
		mesh.WithIdentity(s))...)
	if err != nil {
		t.Fatalf("meshtest: %v", named(err, names))
	}
	e.mesh = m
	e.client = &http.Client{Transport: &transport{env: e, next: m.RoundTripper()}}
	w.envs = append(w.envs, e)
	t.Cleanup(func() {
		if s := e.untold(); s != "" && t.Failed() {
			t.Logf("%s", s)
		}
		w.end() // whatever the test has left under way
		_ = m.Close()
	})
	return e
}

// HTTP adds an instance of a service: h answers what the mesh sends to it. The host is written as a caller
// would, "reviews", "reviews.shop" or "api.example.com", with a port where it is not the service's first.
//
// Instances take the place of all endpoints that the YAML gives the host, in whatever way, and serve every
// port of it. The labels are the instance's own, for subsets to select by. Where the YAML has neither a
// ServiceEntry of the host nor a Service of Kubernetes, a ServiceEntry is made, with the given port or else 80; a
// port that the YAML's does not have ends the test. A nil h answers with the instance's name.
func (e *Env) HTTP(host string, labels map[string]string, h http.Handler) *Instance {
	e.t.Helper()
	i := &Instance{labels: maps.Clone(labels), handler: h}
	if h == nil {
		i.handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(rw, i) })
	}
	return e.add(host, i)
}

// add adds an instance of the host.
func (e *Env) add(host string, i *Instance) *Instance {
	e.t.Helper()
	if err := e.world.add(e.workload.Namespace, host, i); err != nil {
		e.t.Fatalf("meshtest: add an instance of %s: %v", host, err)
	}
	return i
}

// Client gives the http.Client whose calls go through the mesh: hand it to the code under test. Its calls
// are those that [Env.Story] tells of.
func (e *Env) Client() *http.Client { return e.client }

// Mesh gives the mesh itself. Positions in what it says call the nth document <inline n>; Env's methods
// give the files' names.
func (e *Env) Mesh() *mesh.Mesh { return e.mesh }

// Apply puts the documents in place of all that the test's mesh was configured with, for every workload,
// and keeps the instances. It returns when they are live, or with the *mesh.ConfigError that refused them;
// then nothing has changed.
func (e *Env) Apply(docs ...string) error {
	parsed, err := documentsOf(parse(docs...))
	if err != nil {
		return err
	}
	e.world.mu.Lock()
	defer e.world.mu.Unlock()
	return e.world.apply(parsed, e.world.services)
}

// As gives the same mesh, instances and configuration as another workload sees them: with the rules that
// are visible and meant for it. It has connections, balancers and a client of its own.
func (e *Env) As(w mesh.Workload) *Env {
	e.t.Helper()
	if w.Namespace == "" {
		w.Namespace = defaultNamespace
	}
	if e.world.ctx.Err() != nil {
		e.t.Fatal("meshtest: the test has ended")
	}
	return e.world.env(e.t, w)
}
