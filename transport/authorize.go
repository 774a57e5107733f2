package transport

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/identity/jwt"
)

// An Inquiry is who would send a request, for Authorize.
type Inquiry struct {
	// ID is what its certificate says, "spiffe://cluster.local/ns/default/sa/web" with or without the scheme; "" for a caller
	// without one.
	ID string
	// Source is the address it would call from. Default: not known, for which no policy that names addresses lets it in.
	Source netip.Addr
	// Port is the workload port that it would call. Default: that of the URL, where one is written.
	Port uint16
	// Claims, JSON, are those of a token as if one had been verified. Default: the tokens that the request has are verified.
	Claims []byte
}

// An Authorization is what policies would do with a request, and why.
type Authorization struct {
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"`             // as the program would see it
	Caller string `json:"caller,omitempty"` // the principal, "" for nobody
	Token  string `json:"token,omitempty"`  // the token's, "" for none

	Allowed bool   `json:"allowed"`
	Status  int    `json:"status,omitempty"` // of the answer to a request that is refused: 400, 401 or 403
	Text    string `json:"text,omitempty"`   // of that answer
	Why     string `json:"why"`              // the rule, Envoy's details of a refusal, or words

	// Custom says by which rule of a CUSTOM policy somebody would be asked first, and whom. Nobody is: the verdict is for where
	// that allows, and where there is nobody to ask that of the failure.
	Custom string `json:"custom,omitempty"`

	Audit  string `json:"audit,omitempty"`  // the rule of an AUDIT policy that matches
	DryRun string `json:"dryRun,omitempty"` // what dry-run policies would do, and by which rule
}

// Authorize says what the policies for the workload would do with a request that comes in to it. Nothing is sent, counted or
// told. It fails for a caller that is none, and for claims that are not a JSON object.
func (e *Engine) Authorize(r *http.Request, c Inquiry) (Authorization, error) {
	q, err := arrivalOf(r, c)
	if err != nil {
		return Authorization{}, err
	}
	g := e.Gate()
	path, sound := g.paths.Spell(q.Path)
	q.Path = path
	q.Unsound = !q.Prepare() || !sound || smallLetters(q.Method)
	var v Verdict
	q.begin()
	custom := ""
	if !q.Unsound {
		custom = g.Custom(q)
	}
	switch {
	case custom != "" && !g.Answers():
		v = Verdict{Status: g.asks.provider.OnError(), Reason: externalError, Details: externalError, Flag: externalFlag}
	case c.Claims == nil || q.Unsound:
		v = g.judge(q)
	default:
		t, err := jwt.Claimed(c.Claims)
		if err != nil {
			return Authorization{}, fmt.Errorf("authorize: read claims: %w", err)
		}
		q.Token, q.Hops = t, g.hops
		v.Token = t
		v = v.of(g.policies.Decide(&q.Request))
	}
	a := authorizationOf(q, &v)
	if custom != "" {
		a.Custom = custom + g.asksWhom()
	}
	return a, nil
}

// asksWhom names the provider for people.
func (g Gate) asksWhom() string {
	p := g.Provider()
	switch {
	case !g.Answers():
		return fmt.Sprintf(" asks %q, whom nobody can ask", p.Name)
	case p.Kind == external.Program:
		return fmt.Sprintf(" asks %q (%s): nobody was asked, the verdict is for where that allows", p.Name, p.Kind)
	}
	return fmt.Sprintf(" asks %q (%s, %s:%d): nobody was asked, the verdict is for where that allows", p.Name, p.Kind, p.Host, p.Port)
}

// arrivalOf makes what a server would see of the request.
func arrivalOf(r *http.Request, c Inquiry) (*Arrival, error) {
	if r == nil || r.URL == nil {
		return nil, errors.New("authorize: no request URL")
	}
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	q := &Arrival{Request: authz.Request{Authority: host, Request: &call.Request{Method: r.Method, Scheme: r.URL.Scheme, Authority: host,
		Path: rawPath(r.URL), Query: r.URL.RawQuery, Headers: call.HTTPHeaders(unclaimed(r.Header, c.ID != "")), Source: c.Source}}}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	if c.ID != "" {
		peer, err := authz.ParsePrincipal(c.ID)
		if err != nil {
			return nil, fmt.Errorf("authorize: %w", err)
		}
		q.Peer = peer
	}
	port := c.Port
	if _, written, err := call.SplitAuthority(r.URL.Host); port == 0 && err == nil {
		port = written
	}
	q.Local = netip.AddrPortFrom(netip.Addr{}, port)
	return q, nil
}

func authorizationOf(q *Arrival, v *Verdict) Authorization {
	d := &v.Decision
	a := Authorization{Method: q.Method, Host: q.Authority, Path: q.Path, Caller: q.Peer.Principal, Allowed: v.Status == 0, Status: v.Status,
		Text: v.Body, Why: v.Details, Audit: d.Audit}
	if v.Token != nil {
		a.Token = v.Token.Principal()
	}
	if a.Allowed {
		if a.Why = d.Rule; a.Why == "" {
			a.Why = "no policy restricts it"
		}
	}
	if v.Status == http.StatusBadRequest {
		a.Why = "the path, the host or the method has no safe spelling"
	}
	if d.Shadow != authz.None {
		a.DryRun = strings.TrimSpace(d.Shadow.String() + " " + d.ShadowRule)
	}
	return a
}

// Verdict is "allowed", or the answer.
func (a *Authorization) Verdict() string {
	if a.Allowed {
		return "allowed"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.Status, a.Text))
}

// String tells the verdict for people, one thing a line.
func (a Authorization) String() string {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-9s  %s\n", name, text)
		}
	}
	line("request", call.Printable(a.Method)+" "+call.Printable(a.Host)+call.Printable(a.Path))
	caller := "nobody: no certificate"
	if a.Caller != "" {
		caller = call.Printable(a.Caller)
	}
	line("caller", caller)
	line("token", call.Printable(a.Token))
	line("custom", a.Custom)
	line("verdict", a.Verdict())
	line("because", a.Why)
	line("audit", a.Audit)
	line("dry run", a.DryRun)
	return b.String()
}
