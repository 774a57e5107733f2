package transport

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/external"
)

// Asked is what a driver knows of a request beside its Arrival, where somebody is asked about it.
type Asked interface {
	// Header gives the header of the request as the program will see it (external.Check.Header), in a map and texts of its
	// own.
	Header() http.Header
	// Body reads the body's first bytes, at most so many, which the program still gets, and reports whether there are more.
	Body(most int) (first []byte, more bool, err error)
	// Size is the length of the body as the caller has announced it, -1 where it has not.
	Size() int64
	// Trail gives the field x-heddle-check, "" for none.
	Trail() string
	// Remote is the other end of the connection, invalid where that is not known.
	Remote() netip.AddrPort
}

// What becomes of a request that somebody else was asked about, as Envoy's ext_authz filter has it.
const (
	externalFlag   = "UAEX"
	externalDenied = "ext_authz_denied"
	externalError  = "ext_authz_error"
	externalOpened = "ext_authz_failure_mode_allowed"
	tooLarge       = "request_payload_too_large"
)

// maxTrail is how many meshes may ask for the sake of one another, in bytes of x-heddle-check.
const maxTrail = 16 * 17

var (
	errRecursion = errors.New("the question would be asked about itself: exclude the authorizer's own workload from the policy")
	errAnnounced = errors.New("the authorizer could not decide")
)

// Custom gives the CUSTOM rule by which somebody has to be asked (Ask) before Decide; "" for none. It does not allocate.
func (g Gate) Custom(q *Arrival) string {
	if g.asks == nil {
		return ""
	}
	return g.policies.Custom(&q.Request)
}

// Provider is whom Ask asks, nil where there are no CUSTOM policies.
func (g Gate) Provider() *external.Provider {
	if g.asks == nil {
		return nil
	}
	return g.asks.provider
}

// Answers reports whether there is somebody to ask. Where there is not, Ask refuses, and looks at nothing.
func (g Gate) Answers() bool { return g.asks != nil && g.asks.authorizer != nil }

// Ask asks the provider of the CUSTOM policies about a request that rule selects, and waits for the answer, within the
// provider's time-out and ctx. A Verdict with a Status is that of a request that is refused; else q is what Decide goes on
// with: with the header and the query as the authorizer has changed them. It tells who wants to know.
func (g Gate) Ask(ctx context.Context, q *Arrival, rule string, of Asked) Verdict {
	a, e := g.asks, g.engine
	q.begin()
	q.asked = true
	if a.authorizer == nil {
		return g.failed(q, rule, &external.Answer{}, a.err)
	}
	trail := of.Trail()
	if strings.Contains(trail, e.trail) || len(trail) > maxTrail {
		return g.failed(q, rule, &external.Answer{}, errRecursion)
	}
	c := g.check(q, rule, of)
	if c.Trail = e.trail; trail != "" {
		c.Trail = trail + " " + e.trail
	}
	if b := a.provider.Body; b != nil {
		var err error
		c.WithBody, c.Raw = true, b.Raw
		if c.Body, c.Partial, err = of.Body(b.Max); err != nil {
			return Verdict{Status: http.StatusBadRequest, Body: http.StatusText(http.StatusBadRequest), Reason: "bad_request", Details: "request_body_broken"}
		}
		if c.Partial && !b.Partial {
			return g.refused(q, rule, Verdict{Status: http.StatusRequestEntityTooLarge, Reason: tooLarge,
				Body: "Payload Too Large", Details: tooLarge}, nil)
		}
	}
	limited, cancel := context.WithTimeout(WithCarried(ctx, Collect(call.HTTPHeaders(c.Header))), a.provider.Wait())
	defer cancel()
	answer, err := a.authorizer.Authorize(limited, c)
	if err == nil {
		err = limited.Err() // what comes later counts for nothing
	}
	if err == nil {
		err = answer.Valid()
	}
	if err == nil && answer.Failed {
		err = errAnnounced
	}
	switch {
	case err != nil && a.provider.FailOpen && !errors.Is(err, external.ErrMalformed) && ctx.Err() == nil:
		e.decided.externalOpened.Add(1)
		if e.onDecided != nil {
			ev := eventOf(&authz.Decision{Rule: rule, Allowed: true}, &q.Request, 0, externalOpened)
			ev.Err = err
			e.onDecided(ev)
		}
		return Verdict{}
	case err != nil:
		return g.failed(q, rule, &answer, err)
	case !answer.Allowed:
		v := Verdict{Status: answer.Status, Body: answer.Body, Reason: externalDenied, Details: externalDenied, Flag: externalFlag,
			denied: answer.Denied}
		if v.Status == 0 {
			v.Status = http.StatusForbidden
		}
		e.decided.externalDenied.Add(1)
		return g.refused(q, rule, v, nil)
	}
	q.answer = &answer
	if len(answer.Request) > 0 {
		over := &overlay{Headers: q.Headers}
		external.Apply(answer.Request, over)
		q.Headers, q.over = over, over
	}
	q.Query = answer.Query(q.Query)
	return Verdict{}
}

// failed refuses a request that nobody has decided on.
func (g Gate) failed(q *Arrival, rule string, answer *external.Answer, err error) Verdict {
	v := Verdict{Status: g.asks.provider.OnError(), Reason: externalError, Details: externalError, Flag: externalFlag}
	if errors.Is(err, errAnnounced) {
		v.Body, v.denied = answer.Body, answer.Denied
		if answer.Status != 0 {
			v.Status = answer.Status
		}
	}
	g.engine.decided.externalFailed.Add(1)
	return g.refused(q, rule, v, err)
}

func (g Gate) refused(q *Arrival, rule string, v Verdict, err error) Verdict {
	v.Decision.Rule = rule
	if g.engine.onDecided != nil {
		ev := eventOf(&v.Decision, &q.Request, v.Status, v.Details)
		ev.Flag, ev.Err = v.Flag, err
		g.engine.onDecided(ev)
	}
	return v
}

// check describes the request, in texts of its own: those of q may be a buffer's, and a question that is given up may still
// be under way.
func (g Gate) check(q *Arrival, rule string, of Asked) *external.Check {
	c := &external.Check{Policy: rule, Provider: g.asks.provider.Name, Time: time.Now(), Method: strings.Clone(q.Method), Scheme: q.Scheme,
		Host: strings.Clone(q.Authority), Path: strings.Clone(q.Path), Query: strings.Clone(q.Query), Protocol: q.Protocol,
		Header: of.Header(), Size: of.Size(), Source: of.Remote(), Local: q.Local, SNI: q.SNI}
	if c.ID = c.Header.Get("X-Request-Id"); c.ID == "" {
		c.ID = g.engine.RequestID()
	}
	if q.Peer.Principal != "" {
		c.Peer = "spiffe://" + q.Peer.Principal
	}
	if id := g.engine.identity; id != nil && !id.ID().IsZero() {
		c.Self = id.ID().String()
	}
	return c
}

// An overlay is a header that was changed, over the one that was not.
type overlay struct {
	call.Headers
	changed []changedField
}

type changedField struct {
	name   string // in small letters
	values []string
}

// Value implements call.HeaderEditor, as do Set, Add and Remove.
func (o *overlay) Value(n *call.Name, i int) (string, bool) {
	for at := range o.changed {
		if f := &o.changed[at]; f.name == n.Lower() {
			if i < len(f.values) {
				return f.values[i], true
			}
			return "", false
		}
	}
	return o.Headers.Value(n, i)
}

// Set implements call.HeaderEditor.
func (o *overlay) Set(n *call.Name, value string) { o.own(n).values = []string{value} }

// Add implements call.HeaderEditor.
func (o *overlay) Add(n *call.Name, value string) {
	f := o.own(n)
	f.values = append(f.values, value)
}

// Remove implements call.HeaderEditor.
func (o *overlay) Remove(n *call.Name) { o.own(n).values = nil }

// own gives the field to change it.
func (o *overlay) own(n *call.Name) *changedField {
	for at := range o.changed {
		if f := &o.changed[at]; f.name == n.Lower() {
			return f
		}
	}
	f := changedField{name: n.Lower()}
	for i := 0; ; i++ {
		v, ok := o.Headers.Value(n, i)
		if !ok {
			break
		}
		f.values = append(f.values, v)
	}
	o.changed = append(o.changed, f)
	return &o.changed[len(o.changed)-1]
}
