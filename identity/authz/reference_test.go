package authz_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	pathpkg "path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
)

// A second evaluator, as plain as possible: no index, no compilation, every rule in turn. What a restriction takes for
// possible and what a grant takes for certain it spells out from the readings of each attribute.

// facts are the readings of an attribute: nil for what nobody knows, empty for what is not there.
type facts struct {
	known    bool
	certain  []string // all of them must be meant by a grant
	possible []string // any of them is meant by a restriction
	either   bool     // one of certain is enough: they are several things, not several readings of one
	suspect  bool     // it may be anything besides
}

func factsOf(q *authz.Request, t *authz.Term) facts {
	text := func(s string) facts { return facts{known: true, certain: []string{s}, possible: []string{s}} }
	maybe := func(s string) facts {
		if s == "" {
			return facts{}
		}
		return text(s)
	}
	switch t.Attribute {
	case authz.Path:
		all := plainReadings(q.Path)
		return facts{known: true, certain: all, possible: all}
	case authz.Host:
		if q.Authority == "" {
			return facts{}
		}
		h, port, _ := call.SplitAuthority(q.Authority)
		f := facts{known: true, either: true}
		if port == 0 || port == 80 {
			f.certain = append(f.certain, h)
		}
		if port != 0 {
			f.certain = append(f.certain, fmt.Sprintf("%s:%d", h, port))
		}
		f.possible = f.certain
		return f
	case authz.Method:
		return text(q.Method)
	case authz.Port:
		if q.Local.Port() == 0 {
			return facts{}
		}
		return text(fmt.Sprint(q.Local.Port()))
	case authz.SourceIP, authz.RemoteIP:
		f := facts{}
		if q.Source.IsValid() {
			f = text(q.Source.Unmap().String())
		}
		if t.Attribute == authz.RemoteIP && q.Hops > 0 {
			return plainClient(q, f)
		}
		if t.Attribute == authz.RemoteIP {
			for _, line := range q.Headers.(call.HTTPHeaders)["X-Forwarded-For"] {
				for _, one := range strings.Split(line, ",") {
					if one = strings.TrimSpace(one); one != "" {
						f.certain, f.possible = append(f.certain, one), append(f.possible, one)
					}
				}
			}
		}
		return f
	case authz.DestinationIP:
		if !q.Local.Addr().IsValid() {
			return facts{}
		}
		return text(q.Local.Addr().Unmap().String())
	case authz.SNI:
		return maybe(q.SNI)
	case authz.Principal:
		return maybe(q.Peer.Principal)
	case authz.Namespace:
		return maybe(q.Peer.Namespace)
	case authz.ServiceAccount:
		return maybe(q.Peer.ServiceAccount)
	case authz.TrustDomain:
		return maybe(q.Peer.TrustDomain)
	case authz.Header:
		f := facts{known: true}
		for _, v := range q.Headers.(call.HTTPHeaders)["X-Role"] {
			f.certain, f.possible = append(f.certain, v), append(f.possible, v)
			for _, one := range strings.Split(v, ",") {
				f.possible = append(f.possible, strings.TrimSpace(one))
			}
			f.suspect = f.suspect || !utf8.ValidString(v)
		}
		if strings.Join(f.certain, "") == "" && !f.suspect {
			f.certain, f.possible = nil, nil
		}
		return f
	}
	if q.Token == nil {
		return facts{}
	}
	f := facts{known: true, either: true}
	switch t.Attribute {
	case authz.RequestPrincipal:
		return maybe(q.Token.Principal())
	case authz.Audiences:
		f.certain = q.Token.Audiences()
	case authz.Presenter:
		if q.Token.Presenter() != "" {
			f.certain = []string{q.Token.Presenter()}
		}
	default:
		f.certain, _ = q.Token.Claim(t.Keys)
	}
	f.possible = f.certain
	return f
}

// plainClient is the address that proxies tell of who are believed.
func plainClient(q *authz.Request, peer facts) facts {
	lines, there := q.Headers.(call.HTTPHeaders)["X-Forwarded-For"]
	if !there {
		return peer
	}
	list := slices.DeleteFunc(strings.Split(strings.ReplaceAll(strings.Join(lines, ","), " ", ""), ","), func(s string) bool { return s == "" })
	if len(list) < q.Hops {
		return facts{}
	}
	a, err := netip.ParseAddr(list[len(list)-q.Hops])
	if err != nil {
		return facts{}
	}
	one := []string{a.Unmap().String()}
	return facts{known: true, certain: one, possible: one}
}

var unreservedEscape = regexp.MustCompile(`%(?i:2[de]|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])`)

// plainBase is Istio's BASE normalisation.
func plainBase(s string) string {
	s = unreservedEscape.ReplaceAllStringFunc(s, func(e string) string { d, _ := url.PathUnescape(e); return d })
	var kept []string
	segments := strings.Split(strings.ReplaceAll(s, `\`, "/"), "/")[1:]
	for i, one := range segments {
		switch one {
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
			fallthrough
		case ".":
			if i == len(segments)-1 {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, one)
		}
	}
	return "/" + strings.Join(kept, "/")
}

// plainReadings gives the readings of a path.
func plainReadings(s string) []string {
	came := s
	s = plainBase(s)
	clean := func(s string) string {
		s = strings.ReplaceAll(s, `\`, "/")
		c := pathpkg.Clean(s)
		if end := s[strings.LastIndexByte(s, '/')+1:]; c != "/" && (end == "" || end == "." || end == "..") {
			c += "/"
		}
		return c
	}
	unescape := regexp.MustCompile(`%[0-9a-fA-F]{2}`)
	decode := func(s string) string {
		return unescape.ReplaceAllStringFunc(s, func(e string) string { d, _ := url.PathUnescape(e); return d })
	}
	twice := strings.ReplaceAll(decode(s), `\`, "/")
	all := []string{came, s, regexp.MustCompile(`/+`).ReplaceAllString(s, "/"), clean(decode(s))}
	for range 3 {
		twice = strings.ReplaceAll(decode(twice), `\`, "/")
	}
	var each []string
	all = append(all, clean(twice))
	if parts := regexp.MustCompile(`^//+[^/]*(/.*)?$`).FindStringSubmatch(s); parts != nil {
		all = append(all, clean(decode("/"+parts[1])))
	}
	for _, one := range all {
		if !slices.Contains(each, one) {
			each = append(each, one)
		}
	}
	return each
}

func plainLike(a authz.Attribute, value, s string, spelt bool) bool {
	switch {
	case a == authz.SourceIP || a == authz.RemoteIP || a == authz.DestinationIP:
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return false
		}
		if one, err := netip.ParseAddr(value); err == nil {
			return one.Unmap() == addr.Unmap()
		}
		return netip.MustParsePrefix(value).Contains(addr.Unmap())
	case a == authz.Path && strings.Contains(value, "{*"):
		e := regexp.QuoteMeta(value)
		e = strings.ReplaceAll(e, `\{\*\*\}`, `(?s:.*)`)
		e = strings.ReplaceAll(e, `\{\*\}`, `[^/]+`)
		return regexp.MustCompile(`\A` + e + `\z`).MatchString(s)
	case a == authz.Host:
		value = strings.ToLower(value)
	case a == authz.ServiceAccount || a == authz.Port:
		return value == s
	}
	if spelt && strings.Contains(value, "%") {
		if d, err := url.PathUnescape(value); err == nil && plainLike(a, d, s, false) {
			return true
		}
	}
	switch {
	case value == "*":
		return s != ""
	case strings.HasPrefix(value, "*"):
		return strings.HasSuffix(s, value[1:])
	case strings.HasSuffix(value, "*"):
		return strings.HasPrefix(s, value[:len(value)-1])
	}
	return value == s
}

func plainTerm(q *authz.Request, t *authz.Term, restricts bool) bool {
	f := factsOf(q, t)
	in := func(values []string, i int, s string) bool {
		return slices.ContainsFunc(values, func(v string) bool { return plainLike(t.Attribute, v, s, t.Attribute == authz.Path && i > 0) })
	}
	some := func(values []string) bool {
		for i, s := range f.possible {
			if in(values, i, s) {
				return true
			}
		}
		return f.suspect
	}
	every := func(values []string) bool {
		if len(f.certain) == 0 || !f.known {
			return false
		}
		n := 0
		for i, s := range f.certain {
			if in(values, i, s) {
				n++
			}
		}
		return n == len(f.certain) || f.either && n > 0
	}
	if len(t.Values) > 0 {
		presence := slices.Contains(t.Values, "*")
		switch {
		case !f.known && (presence || !restricts):
			return false
		case restricts && f.known && !some(t.Values):
			return false
		case !restricts && !every(t.Values):
			return false
		}
	}
	if len(t.Not) == 0 {
		return true
	}
	switch {
	case restricts:
		return !every(t.Not)
	case slices.Contains(t.Not, "*"):
		return !some(t.Not)
	}
	return f.known && len(f.certain) > 0 && !some(t.Not)
}

func plainRule(q *authz.Request, r *authz.Rule, restricts bool) bool {
	all := func(terms []authz.Term) bool {
		return !slices.ContainsFunc(terms, func(t authz.Term) bool { return !plainTerm(q, &t, restricts) })
	}
	return (len(r.From) == 0 || slices.ContainsFunc(r.From, all)) && (len(r.To) == 0 || slices.ContainsFunc(r.To, all)) && all(r.When)
}

func plainDecide(policies []authz.Policy, q *authz.Request) bool {
	matches := func(p *authz.Policy) bool {
		return slices.ContainsFunc(p.Rules, func(r authz.Rule) bool { return plainRule(q, &r, p.Action != authz.Allow) })
	}
	allows, allowed := false, false
	for i := range policies {
		switch p := &policies[i]; {
		case p.DryRun || p.Action == authz.Audit:
		case p.Action == authz.Deny && matches(p):
			return false
		case p.Action == authz.Allow:
			allows, allowed = true, allowed || matches(p)
		}
	}
	return !allows || allowed
}

// A drawer makes policies and requests of few parts, so that they meet.
type drawer struct{ *rand.Rand }

func (d drawer) of(list ...string) string { return list[d.IntN(len(list))] }

func (d drawer) values(a authz.Attribute) []string {
	var list []string
	for range 1 + d.IntN(3) {
		switch a {
		case authz.Path:
			list = append(list, d.of("/a", "/a/b", "/a/*", "*/b", "*", "/a/{*}", "/{**}", "/a/{**}/b", "/a%2fb", "/a%2F*", "/caf%C3%A9", "/b*", "/"))
		case authz.Host:
			list = append(list, d.of("h", "H.example", "h:*", "h:80", "h:90", "*.example", "*", "h.*"))
		case authz.Method:
			list = append(list, d.of("GET", "POST", "P*", "*"))
		case authz.Port:
			list = append(list, d.of("80", "9080"))
		case authz.SourceIP, authz.RemoteIP, authz.DestinationIP:
			list = append(list, d.of("10.0.0.1", "10.0.0.0/24", "192.0.2.0/25", "::/0", "0.0.0.0/1"))
		case authz.Header, authz.SNI, authz.Presenter, authz.Audiences, authz.Claim:
			list = append(list, d.of("a", "b", "a*", "*b", "*", "a,b", "ab"))
		case authz.ServiceAccount:
			list = append(list, d.of("foo/web", "foo/db", "bar/web"))
		case authz.Namespace, authz.TrustDomain:
			list = append(list, d.of("foo", "bar", "f*", "*", "cluster.local"))
		default:
			list = append(list, d.of("cluster.local/ns/foo/sa/web", "cluster.local/ns/bar/*", "*/sa/web", "*", "issuer/alice", "issuer/*"))
		}
	}
	return list
}

func (d drawer) terms() []authz.Term {
	var list []authz.Term
	for range 1 + d.IntN(2) {
		t := authz.Term{Attribute: authz.Attribute(d.IntN(int(authz.Claim) + 1)), Name: "x-role", Keys: []string{d.of("groups", "roles")}}
		if d.IntN(3) > 0 {
			t.Values = d.values(t.Attribute)
		}
		if t.Values == nil || d.IntN(4) == 0 {
			t.Not = d.values(t.Attribute)
		}
		list = append(list, t)
	}
	return list
}

func (d drawer) policies() []authz.Policy {
	var list []authz.Policy
	for i := range 1 + d.IntN(6) {
		p := authz.Policy{Namespace: "n", Name: fmt.Sprint("p", i), Action: authz.Action(d.IntN(3)), DryRun: d.IntN(8) == 0}
		for range d.IntN(4) {
			var r authz.Rule
			for range d.IntN(3) {
				r.From = append(r.From, d.terms())
			}
			for range d.IntN(3) {
				r.To = append(r.To, d.terms())
			}
			if d.IntN(3) == 0 {
				r.When = d.terms()
			}
			p.Rules = append(p.Rules, r)
		}
		list = append(list, p)
	}
	return list
}

func (d drawer) request() *authz.Request {
	var edits []func(*authz.Request)
	add := func(e func(*authz.Request)) { edits = append(edits, e) }
	add(path(d.of("/a", "/a/b", "//a", "/a//b", "/a%2fb", "/a%2Fb", "/a%252fb", "/x/..%2fa", "/x/%2e%2e%2f/a", "/caf%C3%A9", "/b", "/", "/a/b/", "/%5ca", "/x%2f..%2f..", "//h/a", "//h/%61", "///h/a/b", "//h", `/\h\a`, "//h//a%2fb")))
	if d.IntN(4) == 0 { // as it came, where MeshConfig says NONE
		add(func(q *authz.Request) {
			q.Path = d.of("/x/../a", "/%61", `/a\b`, "/./a/b", "//x/../a", "/a/b/..", "/%2e%2e/a%2fb", `/x%5c..\a`)
		})
	}
	add(host(d.of("h", "H", "h.", "h:80", "h:90", "h.example", "H.EXAMPLE:080", "")))
	add(method(d.of("GET", "POST", "PUT")))
	add(sni(d.of("", "a", "ab")))
	add(func(q *authz.Request) {
		q.Local = netip.MustParseAddrPort(d.of("10.0.0.1:80", "10.0.0.9:9080", "[::1]:80", "10.0.0.1:0"))
		q.Source = netip.MustParseAddr(d.of("10.0.0.1", "::ffff:10.0.0.7", "192.0.2.200", "::1"))
	})
	if d.IntN(2) == 0 {
		add(header("x-forwarded-for", d.of("10.0.0.1", "192.0.2.1, 10.0.0.3", "junk", "", "junk, 10.0.0.7", "10.0.0.7,10.0.0.200,192.0.2.1", "::ffff:10.0.0.1")))
	}
	add(func(q *authz.Request) { q.Hops = d.IntN(3) })
	switch d.IntN(4) {
	case 0:
		add(header("x-role", d.of("a", "b", "ab", "a,b", "a, b", "", "a\xff", " a", "b\t", " ", "\u00a0a")))
	case 1:
		add(header("x-role", d.of("a", "b", ""), d.of("a", "b", "x")))
	}
	if d.IntN(2) == 0 {
		add(peer(d.of("cluster.local", "foo"), d.of("foo", "bar"), d.of("web", "db")))
	}
	if d.IntN(2) == 0 {
		add(with(&token{principal: d.of("issuer/alice", "other/bob"), presenter: d.of("", "a", "ab"),
			audiences: [][]string{nil, {"a"}, {"a", "b"}}[d.IntN(3)], claims: map[string][]string{"groups": {d.of("a", "b"), d.of("ab", "x")}}}))
	}
	return request(edits...)
}

// compare decides n times both ways.
func compare(t *testing.T, seed uint64, n int) {
	t.Helper()
	d := drawer{rand.New(rand.NewPCG(seed, 1))}
	allowed := 0
	for range n / 20 {
		policies := d.policies()
		set := compile(t, policies...)
		slices.Reverse(policies)
		turned := compile(t, policies...)
		for range 20 {
			q := d.request()
			got, want := set.Decide(q).Allowed, plainDecide(policies, q)
			if got != want || turned.Decide(q).Allowed != got {
				t.Fatalf("seed %d: allowed %v, want %v\npolicies %+v\nrequest %+v\n%+v", seed, got, want, policies, *q, *q.Request)
			}
			if got {
				allowed++
			}
		}
	}
	if allowed < n/20 || allowed > n*19/20 {
		t.Errorf("%d of %d are allowed: the draw tells nothing", allowed, n)
	}
}

// TestSecondEvaluator: both evaluators agree, and the order of policies does not matter.
func TestSecondEvaluator(t *testing.T) {
	t.Parallel()
	n := 100_000
	if testing.Short() || raceEnabled {
		n = 10_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d, %d decisions", seed, n)
	compare(t, seed, n)
}

func FuzzPolicies(f *testing.F) {
	f.Add(uint64(1))
	f.Add(uint64(2))
	f.Fuzz(func(t *testing.T, seed uint64) {
		d := drawer{rand.New(rand.NewPCG(seed, 1))}
		policies := d.policies()
		set := compile(t, policies...)
		for range 20 {
			q := d.request()
			if got, want := set.Decide(q).Allowed, plainDecide(policies, q); got != want {
				t.Fatalf("allowed %v, want %v\npolicies %+v\nrequest %+v\n%+v", got, want, policies, *q, *q.Request)
			}
		}
	})
}

// FuzzReadings: the readings of a path begin with it, do not repeat, and are those of the plain evaluator.
func FuzzReadings(f *testing.F) {
	for _, s := range []string{"/", "/a//b", "/%2e%2e/a", "/x%252f..%252fa", "/a%5c..%5cb", "/..%2f..%2f", "/a%2f%2e", "/%zz", "/a%2", `/a\..\b`, "/%2e%2e/%61"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		canonical, ok := call.CanonicalPath(s)
		if !ok || canonical == "*" || s[0] != '/' {
			return
		}
		for _, p := range []string{canonical, s} {
			sameReadings(t, p)
		}
	})
}

func sameReadings(t *testing.T, p string) {
	t.Helper()
	got, plain := authz.Readings(p), plainReadings(p)
	if got[0] != p {
		t.Errorf("%q begins with %q", p, got[0])
	}
	for i, one := range got {
		if !slices.Contains(plain, one) || slices.Contains(got[:i], one) {
			t.Errorf("%q is read as %q, plainly as %q", p, got, plain)
		}
	}
	for _, one := range plain {
		if !slices.Contains(got, one) {
			t.Errorf("%q is read as %q, plainly as %q", p, got, plain)
		}
	}
}

// FuzzHost: whatever the spelling of an authority, its forms are canonical and of one host.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"h", "H.:080", "[::1]:80", "a,b", "h:", "h:99999", "h:80"} {
		f.Add(s)
	}
	set := compile(f, authz.Policy{Rules: []authz.Rule{{To: [][]authz.Term{{{Attribute: authz.Host, Values: []string{"secret.example"}}}}}}, Action: authz.Deny})
	f.Fuzz(func(t *testing.T, s string) {
		q := &authz.Request{Request: &call.Request{Method: "GET", Path: "/", Headers: call.HTTPHeaders{}}, Authority: s}
		ok := q.Prepare()
		h, port, err := call.SplitAuthority(s)
		if ok != (err == nil || s == "") {
			t.Fatalf("%q: prepared %v, %v", s, ok, err)
		}
		if ok && s != "" && set.Decide(q).Allowed == (h == "secret.example" && (port == 0 || port == 80)) {
			t.Errorf("%q is decided on as %q, %d", s, h, port)
		}
	})
}

// FuzzTemplates: what is accepted matches as the regular expression does that it stands for.
func FuzzTemplates(f *testing.F) {
	f.Add("/a/{*}/b/{**}", "/a/x/b/y/z")
	f.Add("/{**}/", "//")
	f.Add("/{**}/a", "/a")
	f.Fuzz(func(t *testing.T, template, path string) {
		if !strings.Contains(template, "{*") || authz.CheckTemplate(template) != nil || !utf8.ValidString(template) || !utf8.ValidString(path) {
			return
		}
		if !strings.Contains(template, "{*}") && !strings.Contains(template, "{**}") || !strings.HasPrefix(path, "/") {
			return
		}
		if got, want := authz.MatchTemplate(template, path), plainLike(authz.Path, template, path, false); got != want {
			t.Errorf("%q and %q: %v, want %v", template, path, got, want)
		}
	})
}
