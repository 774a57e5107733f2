package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/snapshot"
)

// An AuthorizerClient asks the authorizers of one service until it is closed; it then fails.
type AuthorizerClient interface {
	external.Authorizer
	Close() error
}

// A DialAuthorizer makes the client of a service that speaks Envoy's ext_authz by gRPC, whose calls are the engine's. It
// does not block, and calls nothing of the engine's before it returns.
type DialAuthorizer func(e *Engine, host string, port uint16) (AuthorizerClient, error)

// An authorization is whom the CUSTOM policies of one configuration ask. It is immutable.
type authorization struct {
	provider   *external.Provider
	authorizer external.Authorizer // nil where nobody can be asked
	err        error               // why nobody can
	lent       *lent               // authorizer, where that is a client; nil else
}

// authorizationOf finds whom a configuration asks. A client of the last one goes on, where it is of the same service.
func (e *Engine) authorizationOf(s *snapshot.Snapshot, last *authorization) *authorization {
	name := s.Authorization.Provider()
	if name == "" {
		return nil
	}
	a := &authorization{provider: s.Provider}
	if a.provider == nil {
		a.provider = &external.Provider{Name: name}
	}
	p := a.provider
	switch own := e.authorizers[name]; {
	case own != nil:
		a.authorizer = own
	case p.Kind == external.HTTP:
		a.authorizer = external.NewHTTP(p, (&RoundTripper{e, nowhere{}}).ask)
	case p.Kind != external.GRPC:
		a.err = fmt.Errorf("provider %q is not known", name)
	case e.dialAuthorizer == nil:
		a.err = fmt.Errorf("provider %q is %s, which the program has nobody to ask by", name, p.Kind)
	case last != nil && last.lent != nil && last.provider.Host == p.Host && last.provider.Port == p.Port:
		a.lent = last.lent
	default:
		client, err := e.dialAuthorizer(e, p.Host, p.Port)
		if err != nil {
			a.err = fmt.Errorf("provider %q: %w", name, err)
			break
		}
		a.lent = &lent{client: client}
	}
	if a.lent != nil {
		a.authorizer = a.lent
	}
	return a
}

// retire lets go of the client, where next does not have it.
func (a *authorization) retire(next *authorization) {
	if a != nil && a.lent != nil && (next == nil || next.lent != a.lent) {
		a.lent.retire()
	}
}

// A lent client is closed when nobody is to use it any more and the last question is answered.
type lent struct {
	client AuthorizerClient

	mu      sync.Mutex // guards what follows
	users   int
	retired bool
}

// Authorize implements external.Authorizer.
func (l *lent) Authorize(ctx context.Context, c *external.Check) (external.Answer, error) {
	if !l.use(1) {
		return external.Answer{}, errors.New("ask: the configuration has changed")
	}
	defer l.use(-1)
	return l.client.Authorize(ctx, c)
}

// use counts a user more or less. It reports false where there can be no more.
func (l *lent) use(n int) bool {
	l.mu.Lock()
	if n > 0 && l.retired && l.users == 0 {
		l.mu.Unlock()
		return false
	}
	l.users += n
	last := l.retired && l.users == 0
	l.mu.Unlock()
	if last {
		_ = l.client.Close()
	}
	return true
}

func (l *lent) retire() {
	l.mu.Lock()
	idle := !l.retired && l.users == 0
	l.retired = true
	l.mu.Unlock()
	if idle {
		_ = l.client.Close()
	}
}

// nowhere is where questions go whose service has no endpoints of the mesh's.
type nowhere struct{}

var errNowhere = errors.New("the mesh knows no endpoint of the authorizer")

// RoundTrip implements http.RoundTripper.
func (nowhere) RoundTrip(req *http.Request) (*http.Response, error) {
	closeBody(req)
	return nil, errNowhere
}

// ask sends a request to the service that its URL names, with a Host that says authority. Rules for the service count.
func (t *RoundTripper) ask(req *http.Request, authority string) (*http.Response, error) {
	var q call.Request
	var c Call
	if !view(&q, req) {
		return t.passthrough.RoundTrip(req)
	}
	step := t.engine.Begin(req.Context(), &c, &q)
	c.authority = authority
	resp, err := t.take(step, req, &c, &q)
	c.End(err)
	return resp, err
}

// newTrail makes the word by which an engine knows its own questions. It is no secret: who says it is only refused.
func newTrail() string { return fmt.Sprintf("%016x", rand.Uint64()) }
