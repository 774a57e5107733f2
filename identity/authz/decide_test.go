package authz_test

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
)

// request makes a prepared request: GET http://reviews/reviews/1 from 192.0.2.7 to 10.0.0.1:9080, changed by edits.
func request(edits ...func(*authz.Request)) *authz.Request {
	q := &authz.Request{
		Request:   &call.Request{Method: "GET", Path: "/reviews/1", Headers: call.HTTPHeaders{}, Source: netip.MustParseAddr("192.0.2.7")},
		Authority: "reviews", Local: netip.MustParseAddrPort("10.0.0.1:9080"),
	}
	for _, edit := range edits {
		edit(q)
	}
	if !q.Prepare() {
		panic("no canonical host: " + q.Authority)
	}
	return q
}

func path(s string) func(*authz.Request) {
	return func(q *authz.Request) {
		canonical, ok := call.CanonicalPath(s)
		if !ok {
			panic("no canonical path: " + s)
		}
		q.Path = canonical
	}
}

func host(s string) func(*authz.Request)   { return func(q *authz.Request) { q.Authority = s } }
func method(s string) func(*authz.Request) { return func(q *authz.Request) { q.Method = s } }
func sni(s string) func(*authz.Request)    { return func(q *authz.Request) { q.SNI = s } }

func header(name string, values ...string) func(*authz.Request) {
	return func(q *authz.Request) { q.Headers.(call.HTTPHeaders)[http.CanonicalHeaderKey(name)] = values }
}

func peer(domain, namespace, account string) func(*authz.Request) {
	return func(q *authz.Request) {
		q.Peer = authz.Peer{Principal: domain + "/ns/" + namespace + "/sa/" + account, TrustDomain: domain, Namespace: namespace,
			ServiceAccount: namespace + "/" + account}
	}
}

// A token is a verified token as a test writes it.
type token struct {
	principal, presenter string
	audiences            []string
	claims               map[string][]string
}

func (t *token) Principal() string   { return t.principal }
func (t *token) Audiences() []string { return t.audiences }
func (t *token) Presenter() string   { return t.presenter }
func (t *token) Claim(keys []string) ([]string, bool) {
	v, ok := t.claims[keys[0]]
	return v, ok
}

func with(t *token) func(*authz.Request) { return func(q *authz.Request) { q.Token = t } }

// TestTerms: what a term holds for, in a policy that denies and in one that allows. Where nothing is known of an
// attribute neither lets the request in (attacks.md C-015, design rule 5), but for the question whether it is there.
func TestTerms(t *testing.T) {
	t.Parallel()
	foo := peer("cluster.local", "foo", "web")
	user := with(&token{principal: "https://issuer/alice", presenter: "app", audiences: []string{"a", "b"},
		claims: map[string][]string{"groups": {"dev", "ops"}}})
	is := func(a authz.Attribute, values ...string) authz.Term { return authz.Term{Attribute: a, Values: values} }
	not := func(a authz.Attribute, values ...string) authz.Term { return authz.Term{Attribute: a, Not: values} }
	role := func(t authz.Term) authz.Term { t.Name = "x-role"; return t }
	claim := func(t authz.Term, key string) authz.Term { t.Keys = []string{key}; return t }
	for _, c := range []struct {
		name         string
		term         authz.Term
		q            *authz.Request
		denied, lets bool // by DENY, by ALLOW
	}{
		{"exact path", is(authz.Path, "/reviews/1"), request(), true, true},
		{"other path", is(authz.Path, "/reviews/2"), request(), false, false},
		{"prefix", is(authz.Path, "/reviews/*"), request(), true, true},
		{"suffix", is(authz.Path, "*/1"), request(), true, true},
		{"any", is(authz.Path, "*"), request(), true, true},
		{"one of several", is(authz.Path, "/a", "/reviews/1"), request(), true, true},
		{"not the path", not(authz.Path, "/reviews/1"), request(), false, false},
		{"not another path", not(authz.Path, "/a"), request(), true, true},
		{"doubled slash, denied", is(authz.Path, "/admin*"), request(path("//admin")), true, false},
		{"encoded slash", is(authz.Path, "/private/secret.html"), request(path("/private%2fsecret.html")), true, false},
		{"encoded twice", is(authz.Path, "/private/*"), request(path("/x/%252e%252e/private/a")), true, false},
		{"encoded dots leave", is(authz.Path, "/public/*"), request(path("/public/..%2fadmin")), true, false},
		{"behind a host", is(authz.Path, "/admin*"), request(path("//h/admin")), true, false},
		{"behind a host, decoded", is(authz.Path, "/admin"), request(path(`/\h/%2561dmin/..%2fadmin`)), true, false},
		{"behind a host, encoded", is(authz.Path, "/admin"), request(path(`/\h/x%2f..%2f%61dmin`)), true, false},
		{"a host alone", is(authz.Path, "/"), request(path("//h")), true, false},
		{"an escape in the rule", is(authz.Path, "/caf%C3%A9"), request(path("/caf%C3%A9")), true, true},
		{"an escaped slash in the rule", is(authz.Path, "/a%2Fb"), request(path("/a/b")), false, false},
		{"template", is(authz.Path, "/reviews/{*}"), request(), true, true},
		{"template, escaped slash", is(authz.Path, "/reviews/{*}"), request(path("/reviews/1%2f2")), true, false},

		{"host", is(authz.Host, "reviews"), request(), true, true},
		{"host in capitals", is(authz.Host, "REVIEWS"), request(host("Reviews.")), true, true},
		{"host, port of http", is(authz.Host, "reviews"), request(host("reviews:080")), true, true},
		{"host, other port", is(authz.Host, "reviews"), request(host("reviews:9080")), false, false},
		{"host:*", is(authz.Host, "reviews:*"), request(host("REVIEWS:9080")), true, true},
		{"host:*, port of http", is(authz.Host, "reviews:*"), request(host("reviews:80")), true, true},
		{"host suffix", is(authz.Host, "*.example.com"), request(host("a.EXAMPLE.com")), true, true},
		{"no host", is(authz.Host, "reviews"), request(host("")), true, false},
		{"not host", not(authz.Host, "reviews"), request(host("ReviewS:80")), false, false},

		{"method", is(authz.Method, "GET"), request(), true, true},
		{"not method", not(authz.Method, "GET"), request(method("POST")), true, true},
		{"port", is(authz.Port, "9080"), request(), true, true},
		{"other port", is(authz.Port, "80"), request(), false, false},
		{"unknown port", is(authz.Port, "80"), request(func(q *authz.Request) { q.Local = netip.AddrPort{} }), true, false},

		{"address", is(authz.SourceIP, "192.0.2.0/24"), request(), true, true},
		{"address within IPv6", is(authz.SourceIP, "192.0.2.7"), request(func(q *authz.Request) { q.Source = netip.MustParseAddr("::ffff:192.0.2.7") }), true, true},
		{"mapped block", is(authz.SourceIP, "::ffff:192.0.2.0/120"), request(), true, true},
		{"unknown address", is(authz.SourceIP, "192.0.2.7"), request(func(q *authz.Request) { q.Source = netip.Addr{} }), true, false},
		{"destination", is(authz.DestinationIP, "10.0.0.0/8"), request(), true, true},
		{"remote is the peer", is(authz.RemoteIP, "192.0.2.7"), request(), true, true},
		{"remote may be who a header names", is(authz.RemoteIP, "203.0.113.9"), request(header("x-forwarded-for", "1.1.1.1, 203.0.113.9")), true, false},
		{"a header makes nobody remote", is(authz.RemoteIP, "192.0.2.7"), request(header("x-forwarded-for", "203.0.113.9")), true, false},
		{"sni", is(authz.SNI, "a.example"), request(sni("a.example")), true, true},
		{"no sni", is(authz.SNI, "a.example"), request(), true, false},

		{"header", role(is(authz.Header, "admin")), request(header("x-role", "admin")), true, true},
		{"header missing", role(is(authz.Header, "admin")), request(), false, false},
		{"header twice", role(is(authz.Header, "admin")), request(header("x-role", "user", "admin")), true, false},
		{"header in a list", role(is(authz.Header, "admin")), request(header("x-role", "user, admin")), true, false},
		{"header, space around it", role(is(authz.Header, "admin")), request(header("x-role", " admin\t")), true, false},
		{"not header, space around it", role(not(authz.Header, "admin")), request(header("x-role", " admin")), true, false},
		{"header, another's space", role(is(authz.Header, "admin")), request(header("x-role", "admin\u00a0")), true, false},
		{"header present", role(is(authz.Header, "*")), request(header("x-role", "x")), true, true},
		{"header empty", role(is(authz.Header, "*")), request(header("x-role", "")), false, false},
		{"not header", role(not(authz.Header, "admin")), request(header("x-role", "user")), true, true},
		{"not header, missing", role(not(authz.Header, "admin")), request(), true, false},
		{"not header, twice", role(not(authz.Header, "admin")), request(header("x-role", "user", "admin")), true, false},
		{"not header, not text", role(not(authz.Header, "admin")), request(header("x-role", "adm\xffin")), true, false},
		{"must be missing, is", role(not(authz.Header, "*")), request(), true, true},
		{"must be missing, is there", role(not(authz.Header, "*")), request(header("x-role", "x")), false, false},

		{"principal", is(authz.Principal, "cluster.local/ns/foo/sa/web"), request(foo), true, true},
		{"principal suffix", is(authz.Principal, "*/sa/web"), request(foo), true, true},
		{"nobody's principal", is(authz.Principal, "cluster.local/ns/foo/sa/web"), request(), true, false},
		{"nobody is not somebody", not(authz.Principal, "cluster.local/ns/foo/sa/web"), request(), true, false},
		{"somebody", is(authz.Principal, "*"), request(foo), true, true},
		{"nobody is nobody", is(authz.Principal, "*"), request(), false, false},
		{"must be nobody, is", not(authz.Principal, "*"), request(), true, true},
		{"namespace", is(authz.Namespace, "foo"), request(foo), true, true},
		{"no namespace", is(authz.Namespace, "foo"), request(), true, false},
		{"not the namespace", not(authz.Namespace, "bar"), request(foo), true, true},
		{"not the namespace, nobody", not(authz.Namespace, "foo"), request(), true, false},
		{"account", is(authz.ServiceAccount, "foo/web"), request(foo), true, true},
		{"account is no expression", is(authz.ServiceAccount, "foo/w.b"), request(foo), false, false},
		{"trust domain", is(authz.TrustDomain, "cluster.*"), request(foo), true, true},

		{"request principal", is(authz.RequestPrincipal, "https://issuer/*"), request(user), true, true},
		{"no token", is(authz.RequestPrincipal, "https://issuer/*"), request(), true, false},
		{"must have a token", is(authz.RequestPrincipal, "*"), request(), false, false},
		{"must have none, has none", not(authz.RequestPrincipal, "*"), request(), true, true},
		{"must have none, has one", not(authz.RequestPrincipal, "*"), request(user), false, false},
		{"audience", is(authz.Audiences, "b"), request(user), true, true},
		{"presenter", is(authz.Presenter, "app"), request(user), true, true},
		{"claim", claim(is(authz.Claim, "ops"), "groups"), request(user), true, true},
		{"not claim", claim(not(authz.Claim, "ops"), "groups"), request(user), false, false},
		{"not another claim", claim(not(authz.Claim, "root"), "groups"), request(user), true, true},
		{"claim missing", claim(is(authz.Claim, "ops"), "roles"), request(user), false, false},
		{"not a claim that is missing", claim(not(authz.Claim, "ops"), "roles"), request(user), true, false},
		{"claim without a token", claim(is(authz.Claim, "ops"), "groups"), request(), true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, action := range []authz.Action{authz.Deny, authz.Allow} {
				for place, rule := range map[string]authz.Rule{
					"when": {When: []authz.Term{c.term}}, "from": {From: [][]authz.Term{{c.term}}}, "to": {To: [][]authz.Term{{c.term}}},
				} {
					d := compile(t, authz.Policy{Namespace: "n", Name: "p", Action: action, Rules: []authz.Rule{rule}}).Decide(c.q)
					if want := action == authz.Allow && c.lets || action == authz.Deny && !c.denied; d.Allowed != want {
						t.Errorf("%s in %s: allowed %v, want %v", action, place, d.Allowed, want)
					}
				}
			}
		})
	}
}

func compile(t testing.TB, policies ...authz.Policy) *authz.Set {
	t.Helper()
	s, err := authz.New(policies)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDecisions: DENY before ALLOW, what no rules mean, AUDIT and dry runs beside them (attacks.md A-048).
func TestDecisions(t *testing.T) {
	t.Parallel()
	all := []authz.Rule{{}}
	mine := []authz.Rule{{To: [][]authz.Term{{{Attribute: authz.Path, Values: []string{"/reviews/*"}}}}}}
	others := []authz.Rule{{To: [][]authz.Term{{{Attribute: authz.Path, Values: []string{"/x"}}}}}}
	p := func(name string, a authz.Action, rules []authz.Rule) authz.Policy {
		return authz.Policy{Namespace: "default", Name: name, Action: a, Rules: rules}
	}
	dry := func(p authz.Policy) authz.Policy { p.DryRun = true; return p }
	for _, c := range []struct {
		name     string
		policies []authz.Policy
		want     authz.Decision
	}{
		{"no policy", nil, authz.Decision{Allowed: true}},
		{"ALLOW nothing", []authz.Policy{p("a", authz.Allow, nil)}, authz.Decision{}},
		{"ALLOW all", []authz.Policy{p("a", authz.Allow, all)}, authz.Decision{Allowed: true, Rule: "ns[default]-policy[a]-rule[0]"}},
		{"DENY nothing", []authz.Policy{p("a", authz.Deny, nil)}, authz.Decision{Allowed: true}},
		{"DENY all", []authz.Policy{p("a", authz.Deny, all)}, authz.Decision{Rule: "ns[default]-policy[a]-rule[0]"}},
		{"DENY goes before ALLOW", []authz.Policy{p("a", authz.Allow, all), p("b", authz.Deny, mine)}, authz.Decision{Rule: "ns[default]-policy[b]-rule[0]"}},
		{"DENY of others", []authz.Policy{p("a", authz.Allow, mine), p("b", authz.Deny, others)}, authz.Decision{Allowed: true, Rule: "ns[default]-policy[a]-rule[0]"}},
		{"not ALLOWed", []authz.Policy{p("a", authz.Allow, others)}, authz.Decision{}},
		{"one ALLOW is enough", []authz.Policy{p("a", authz.Allow, others), p("b", authz.Allow, mine)}, authz.Decision{Allowed: true, Rule: "ns[default]-policy[b]-rule[0]"}},
		{"AUDIT decides nothing", []authz.Policy{p("a", authz.Audit, all)}, authz.Decision{Allowed: true, Audit: "ns[default]-policy[a]-rule[0]"}},
		{"dry DENY", []authz.Policy{dry(p("a", authz.Deny, mine))}, authz.Decision{Allowed: true, Shadow: authz.WouldDeny, ShadowRule: "ns[default]-policy[a]-rule[0]"}},
		{"dry ALLOW that does not", []authz.Policy{dry(p("a", authz.Allow, others))}, authz.Decision{Allowed: true, Shadow: authz.WouldDeny}},
		{"dry ALLOW", []authz.Policy{dry(p("a", authz.Allow, mine))}, authz.Decision{Allowed: true, Shadow: authz.WouldAllow, ShadowRule: "ns[default]-policy[a]-rule[0]"}},
		{"a dry ALLOW is none", []authz.Policy{dry(p("a", authz.Allow, all)), p("b", authz.Allow, others)}, authz.Decision{Shadow: authz.WouldAllow, ShadowRule: "ns[default]-policy[a]-rule[0]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := compile(t, c.policies...).Decide(request()); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	if d := (*authz.Set)(nil).Decide(request()); !d.Allowed {
		t.Error("no policies, and denied")
	}
	denied := authz.Decision{Rule: "ns[default]-policy[a]-rule[0]"}
	if got := denied.Details(); got != "rbac_access_denied_matched_policy[ns[default]-policy[a]-rule[0]]" {
		t.Error(got)
	}
	if got := new(authz.Decision).Details(); got != "rbac_access_denied_matched_policy[none]" {
		t.Error(got)
	}
}

// TestTemplates: Envoy's uri_template, whole paths only.
func TestTemplates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		template, path string
		want           bool
	}{
		{"/foo/{*}", "/foo/bar", true}, {"/foo/{*}", "/foo/bar/baz", false}, {"/foo/{*}", "/foo/", false}, {"/foo/{*}", "/foo", false},
		{"/foo/{**}", "/foo/", true}, {"/foo/{**}", "/foo/a/b", true}, {"/foo/{**}", "/foo", false}, {"/foo/{**}", "/fooo/a", false},
		{"/foo/{**}/", "/foo/bar/", true}, {"/foo/{**}/", "/foo//", true}, {"/foo/{**}/", "/foo/bar", false}, {"/foo/{**}/", "/foo/", false},
		{"/foo/{*}/bar/{**}", "/foo/buzz/bar/", true}, {"/foo/{*}/bar/{**}", "/foo/buzz/bar/baz", true}, {"/foo/{*}/bar/{**}", "/foo/buzz/bar", false},
		{"/{*}/b", "/a/b", true}, {"/{*}/b", "/a/c", false}, {"/{*}/{*}", "/a/b", true}, {"/{*}/{*}", "/a/", false}, {"/{**}", "/", true},
		{"/a/{**}/b", "/a/b", false}, {"/a/{**}/b", "/a//b", true}, {"/a/{**}/b", "/a/x/y/b", true},
	} {
		if got := authz.MatchTemplate(c.template, c.path); got != c.want {
			t.Errorf("%s and %s: %v", c.template, c.path, got)
		}
	}
	for _, bad := range []string{"/*/baz/{*}", "/**/baz/{*}", "/{**}/foo/{*}", "/foo/{*}.txt", "/{*", "foo/{*}", "/{**}/{**}", "/{*}{*}"} {
		if bad != "/{*" && authz.CheckTemplate(bad) == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, term := range []authz.Term{
		{Attribute: authz.SourceIP, Values: []string{"10.0.0.0/33"}}, {Attribute: authz.SourceIP, Not: []string{"10.0.0.1:80"}},
		{Attribute: authz.RemoteIP, Values: []string{"fe80::1%eth0"}}, {Attribute: authz.Port, Values: []string{"http"}},
		{Attribute: authz.Port, Values: []string{"0"}}, {Attribute: authz.Path, Values: []string{"/{**}/{*}"}}, {Attribute: 200},
	} {
		if _, err := authz.New([]authz.Policy{{Rules: []authz.Rule{{When: []authz.Term{term}}}}}); err == nil {
			t.Errorf("%+v is accepted", term)
		}
	}
}
