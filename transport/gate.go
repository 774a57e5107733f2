package transport

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/identity/jwt"
)

// A Gate is what one snapshot asks of requests that come in. All drivers ask here: who else is asked (Custom, Ask), whose
// token it is, then whether policies allow it (Decide), in the order of Istio's filters. It is comparable: one that has not
// changed is equal.
type Gate struct {
	engine   *Engine
	tokens   *jwt.Set
	keys     uint64 // as they were by tokens.Changes
	policies *authz.Set
	conns    *authz.Set // for connections that are not HTTP
	paths    call.PathNormalization
	hops     int
	asks     *authorization // whom CUSTOM policies ask, nil for nobody
}

// Gate gives what is asked at this moment.
func (e *Engine) Gate() Gate {
	st := e.state.Load()
	s := st.snap
	return Gate{e, s.Authentication, s.Authentication.Changes(), s.Authorization, s.ConnAuthorization, s.Inbound.Paths, s.Inbound.Hops, st.asks}
}

// Admitted says of an RPC what Handler has let it in by, for a gRPC server behind it not to do so again.
type Admitted struct {
	Gate   Gate
	Header http.Header // as it came; it must not be changed
	visit  *guest
}

type admittedKey struct{}

// Admitted gives what a Handler of the engine has noted in the context, nil where the RPC came another way.
func (e *Engine) Admitted(ctx context.Context) *Admitted {
	if a, _ := ctx.Value(admittedKey{}).(*Admitted); a != nil && a.Gate.engine == e {
		return a
	}
	return nil
}

// Join notes an RPC that Handler has let in as the gRPC server's from now on: it is for that to end it.
func (a *Admitted) Join(s *Stay, g Guest) Verdict {
	v := s.join(a.Gate, g)
	a.visit.Leave()
	return v
}

// None reports that nothing is asked.
func (g Gate) None() bool { return g.tokens == nil && g.policies == nil && g.paths == call.PathBase }

// Paths says how paths are spelt for the program (MeshConfig.pathNormalization).
func (e *Engine) Paths() call.PathNormalization { return e.state.Load().snap.Inbound.Paths }

// An Arrival is a request that has come in. Fill in its Request; it may be used again, by one at a time.
type Arrival struct {
	authz.Request
	came    call.Headers // before tokens were taken off, nil until it is decided on
	query   string       // as it came
	over    call.Headers // as who was asked has changed it, nil where nobody has
	asked   bool         // somebody was
	opaque  bool         // it is a connection that is not HTTP
	Unsound bool         // it has two readings, or none: where anything is asked it is answered with 400
	view    arrived
	answer  *external.Answer // of who was asked, nil where nobody was
}

// decided reports whether anything was asked about it.
func (q *Arrival) decided() bool { return q.came != nil }

// A Verdict says what becomes of an arrival. Of the request it holds nothing.
type Verdict struct {
	Status    int    // of the answer to a request that is refused, 0 for one that is let in
	Body      string // of that answer
	Challenge string // its www-authenticate, "" for none
	Reason    string // a stable word: "rbac_access_denied", "jwt_authn_access_denied", "ext_authz_denied", "ext_authz_error"
	Details   string // Envoy's response code details, for the log
	Flag      string // Envoy's response flag, "" for none
	denied    []external.Edit

	Decision authz.Decision // of the policies, where they were asked

	gate    Gate       // that has let it in
	Token   *jwt.Token // that was verified, nil for none
	at      *jwt.Location
	outputs []*call.Name
	answer  *external.Answer // of who was asked, nil where nobody was
}

// Decide decides, and tells who wants to know (Config.Decided). q is prepared. It does not allocate where the request is
// let in and its token was verified before.
func (g Gate) Decide(q *Arrival) Verdict {
	q.begin()
	v := g.judge(q)
	g.engine.report(&v, &q.Request)
	return v
}

// begin notes how the request came.
func (q *Arrival) begin() {
	if q.came == nil {
		q.came, q.query = q.Headers, q.Query
	}
}

// again has it as it came.
func (q *Arrival) again() {
	q.begin()
	q.Headers, q.Query, q.Token, q.over, q.answer, q.asked = q.came, q.query, nil, nil, nil, false
}

// judge decides, and tells nobody.
func (g Gate) judge(q *Arrival) Verdict {
	if q.Unsound {
		return badRequest()
	}
	q.Headers, q.Token, q.Hops = q.came, nil, g.hops
	if q.over != nil {
		q.Headers = q.over
	}
	v := Verdict{answer: q.answer}
	if q.opaque {
		q.Hops = 0
		return v.of(g.conns.Decide(&q.Request))
	}
	if g.tokens != nil {
		if !preflight(&q.Request) {
			found := g.tokens.Check(&jwt.Request{Headers: q.Headers, Query: q.Query}, time.Now())
			if found.Err != nil {
				return unauthenticated(q, found.Err)
			}
			v.Token, v.at = found.Token, found.At
		}
		v.outputs = g.tokens.Outputs()
		q.view = arrived{q.Headers, v.Token, v.at, v.outputs}
		q.Headers = &q.view
		if v.Token != nil {
			q.Token = v.Token
		}
	}
	return v.of(g.policies.Decide(&q.Request))
}

// of makes it what policies decide.
func (v Verdict) of(d authz.Decision) Verdict {
	if v.Decision = d; !d.Allowed {
		v.Status, v.Body, v.Reason, v.Details = http.StatusForbidden, authz.Body, reasonDenied, d.Details()
	}
	return v
}

// preflight reports a question of a browser, which brings no token (Envoy, jwt_authn bypass_cors_preflight).
func preflight(q *authz.Request) bool {
	if q.Method != http.MethodOptions {
		return false
	}
	_, origin := q.Headers.Value(originName, 0)
	_, asks := q.Headers.Value(preflightName, 0)
	return origin && asks
}

var (
	originName    = call.NewName("origin")
	preflightName = call.NewName("access-control-request-method")
)

func unauthenticated(q *Arrival, err error) Verdict {
	v := Verdict{Status: http.StatusUnauthorized, Body: err.Error(), Reason: reasonUnauthenticated,
		Challenge: `Bearer realm="` + realm(&q.Request) + `", error="invalid_token"`}
	if errors.Is(err, jwt.NoAudience) { // whose it is is known
		v.Status = http.StatusForbidden
	}
	v.Details = v.Reason + "{" + strings.ReplaceAll(v.Body, " ", "_") + "}"
	return v
}

// realm is the URL of the request without its query, as it may stand in quotes.
func realm(q *authz.Request) string {
	const most = 256 // Envoy's
	s := q.Scheme + "://" + q.Authority + q.Path
	s = strings.Map(func(c rune) rune {
		if c <= ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return -1
		}
		return c
	}, s)
	return s[:min(len(s), most)]
}

// Edits reports whether the request changes before the program sees it.
func (v *Verdict) Edits() bool {
	return len(v.outputs) > 0 || v.Token != nil || v.answer != nil && len(v.answer.Request) > 0
}

// EditsAnswer reports whether the program's answer changes before the caller sees it (EditAnswer).
func (v *Verdict) EditsAnswer() bool { return v.answer != nil && len(v.answer.Response) > 0 }

// EditAnswer makes the changes that an authorizer has asked for to the header of the program's answer.
func (v *Verdict) EditAnswer(h call.HeaderEditor) {
	if v.answer != nil {
		external.Apply(v.answer.Response, h)
	}
}

// Refusal writes what the header of a refusal says: the challenge, and what an authorizer has to say.
func (v *Verdict) Refusal(h call.HeaderEditor) {
	if v.Challenge != "" {
		h.Set(challengeName, v.Challenge)
	}
	external.Apply(v.denied, h)
}

// maxMessage bounds what an RPC is told, in bytes: it is a field of a header.
const maxMessage = 4 << 10

// Message is Body as an RPC is told it.
func (v *Verdict) Message() string {
	return strings.ToValidUTF8(v.Body[:min(len(v.Body), maxMessage)], "")
}

var challengeName = call.NewName("www-authenticate")

// Edit makes the changes to the header: first those of who was asked, then what tokens say goes where rules want it, what a caller has written there goes,
// and so does the token, unless it is forwarded.
func (v *Verdict) Edit(h call.HeaderEditor) {
	if v.answer != nil {
		external.Apply(v.answer.Request, h)
	}
	for _, n := range v.outputs {
		h.Remove(n)
	}
	if v.Token == nil {
		return
	}
	if !v.Token.Forwarded() {
		switch v.at.Place {
		case jwt.InHeader:
			h.Remove(v.at.Field)
		case jwt.InCookie:
			editCookies(h, v.at)
		}
	}
	for _, f := range v.Token.Fields() {
		h.Set(f.Name, f.Value)
	}
}

func editCookies(h call.HeaderEditor, at *jwt.Location) {
	var lines []string
	for i := 0; ; i++ {
		line, ok := h.Value(cookieName, i)
		if !ok {
			break
		}
		if line = at.Without(line); line != "" {
			lines = append(lines, line)
		}
	}
	h.Remove(cookieName)
	for _, line := range lines {
		h.Add(cookieName, line)
	}
}

var cookieName = call.NewName("cookie")

// Query gives the query that goes on: as who was asked has changed it, and without the token, where that stood in it and is not forwarded.
func (v *Verdict) Query(raw string) string {
	if v.answer != nil {
		raw = v.answer.Query(raw)
	}
	if v.Token == nil || v.Token.Forwarded() || v.at.Place != jwt.InQuery {
		return raw
	}
	return v.at.Without(raw)
}

// arrived is a header as the program will see it, which is what policies decide on.
type arrived struct {
	call.Headers
	token   *jwt.Token
	at      *jwt.Location
	outputs []*call.Name
}

// Value implements call.Headers.
func (h *arrived) Value(n *call.Name, i int) (string, bool) {
	if h.token != nil {
		for _, f := range h.token.Fields() {
			if f.Name.Lower() == n.Lower() {
				if i == 0 {
					return f.Value, true
				}
				return "", false
			}
		}
		if h.at.Place == jwt.InHeader && !h.token.Forwarded() && h.at.Field.Lower() == n.Lower() {
			return "", false
		}
	}
	for _, o := range h.outputs {
		if o.Lower() == n.Lower() {
			return "", false
		}
	}
	return h.Headers.Value(n, i)
}

type tokenKey struct{}

// WithToken gives a context that knows whose request it is of; a nil token changes nothing.
func WithToken(ctx context.Context, t *jwt.Token) context.Context {
	if t == nil {
		return ctx
	}
	return context.WithValue(ctx, tokenKey{}, t)
}

// TokenFrom gives the verified token of the request that the context is of, nil for none.
func TokenFrom(ctx context.Context) *jwt.Token {
	t, _ := ctx.Value(tokenKey{}).(*jwt.Token)
	return t
}
