package transport

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// The hashes are those of xxHash64 with seed 0 over the text; of several values each is the next one's seed
// (Envoy, hash_policy.cc and hash.h).
func TestHashOfARequest(t *testing.T) {
	t.Parallel()
	header := snapshot.HashPolicy{Kind: snapshot.HashHeader, Header: call.NewName("X-User")}
	cookie := snapshot.HashPolicy{Kind: snapshot.HashCookie, Name: "s"}
	query := snapshot.HashPolicy{Kind: snapshot.HashQuery, Name: "u"}
	source := snapshot.HashPolicy{Kind: snapshot.HashSource}
	of := func(s string) *uint64 { return new(balance.Hash(s, 0)) }
	fields := func(name string, values ...string) call.Request {
		return call.Request{Headers: call.HTTPHeaders(http.Header{name: values})}
	}
	for name, c := range map[string]struct {
		policy snapshot.HashPolicy
		q      call.Request
		want   *uint64 // nil for none
	}{
		"nothing":                      {snapshot.HashPolicy{}, fields("X-User", "a"), nil},
		"header":                       {header, fields("X-User", "jason"), of("jason")},
		"header missing":               {header, fields("X-Other", "jason"), nil},
		"header empty":                 {header, fields("X-User", ""), of("")},
		"header with several values":   {header, fields("X-User", "b", "a"), new(balance.Hash("b", balance.Hash("a", 0)))},
		"values in the other order":    {header, fields("X-User", "a", "b"), new(balance.Hash("b", balance.Hash("a", 0)))},
		"a value with a comma is one":  {header, fields("X-User", "a, b"), of("a, b")},
		"cookie":                       {cookie, fields("Cookie", "s=1"), of("1")},
		"cookie among others":          {cookie, fields("Cookie", "x=0; s=1; s=2"), of("1")},
		"cookie in a second field":     {cookie, fields("Cookie", "x=0", "s=1"), of("1")},
		"cookie in quotes":             {cookie, fields("Cookie", `s="1"`), of("1")},
		"cookie with half its quotes":  {cookie, fields("Cookie", `s="1`), of(`"1`)},
		"cookie with an equals sign":   {cookie, fields("Cookie", "s=a=b"), of("a=b")},
		"cookie without spaces":        {cookie, fields("Cookie", "x=0;s=1"), of("1")},
		"cookie of another name":       {cookie, fields("Cookie", "ss=1; xs=2; S=3"), nil},
		"cookie without a value":       {cookie, fields("Cookie", "s=; s"), nil},
		"no cookie":                    {cookie, fields("X", ""), nil},
		"query":                        {query, call.Request{Query: "a=0&u=1&u=2"}, of("1")},
		"query, as spelled":            {query, call.Request{Query: "u=%41"}, of("%41")},
		"query without a value":        {query, call.Request{Query: "u"}, of("")},
		"no query":                     {query, call.Request{Query: "uu=1"}, nil},
		"source":                       {source, call.Request{Source: netip.MustParseAddr("10.1.2.3")}, of("10.1.2.3")},
		"source of the other protocol": {source, call.Request{Source: netip.MustParseAddr("2001:db8::1")}, of("2001:db8::1")},
		"no source":                    {source, call.Request{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hash, ok := hashOf(&c.policy, &c.q)
			if ok != (c.want != nil) || ok && hash != *c.want {
				t.Errorf("%x, %v", hash, ok)
			}
		})
	}
}

func TestSetCookie(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]snapshot.Cookie{
		`s="1"; HttpOnly`:                          {},
		`s="1"; Max-Age=60; Path=/a; HttpOnly`:     {TTL: time.Minute, Path: "/a"},
		`s="1"; SameSite=Strict; Secure; HttpOnly`: {Attributes: []snapshot.CookieAttribute{{Name: "SameSite", Value: "Strict"}, {Name: "Secure"}}},
		`s="1"; Path=/; HttpOnly`:                  {TTL: time.Second / 2, Path: "/"}, // an age of 0 would take it back
	} {
		if got := setCookie("s", "1", &c); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// FuzzCookieValue: whatever a client sends, a cookie that is found stands in it, and it takes no time to speak of.
func FuzzCookieValue(f *testing.F) {
	f.Add("a=b; s=1", "s")
	f.Add(`s="`, "s")
	f.Add(";;; =;s =\t\"\" ;", "s")
	f.Fuzz(func(t *testing.T, line, name string) {
		v := cookieValue(call.HTTPHeaders(http.Header{"Cookie": {line}}), name)
		if !strings.Contains(line, v) || strings.Contains(v, ";") {
			t.Fatalf("%q in %q", v, line)
		}
	})
}

// hashRig is three endpoints behind a ring by header x-user.
func hashRig(tb testing.TB, p snapshot.HashPolicy, a balance.Algorithm) (*Engine, []string) {
	tb.Helper()
	registry := new(discovery.Registry)
	e := NewEngine(Config{Registry: registry, Pools: new(noopPools)})
	tb.Cleanup(e.Close)
	addrs := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"}
	publish(registry, addrs...)
	route := &routing.Route{Name: "r", Split: []routing.Destination{{}}}
	err := e.Publish(tb.Context(), &snapshot.Snapshot{Version: "1",
		Tables: map[string]*routing.Table{snapshot.Mesh: routing.NewTable([]*routing.VirtualHost{
			{Host: "svc", Port: 80, HTTP: true, Routes: []*routing.Route{route}}})},
		Clusters: []snapshot.Cluster{{Name: "c", Set: key, Policy: snapshot.Policy{Config: balance.Config{Algorithm: a}, Hash: p}}}})
	if err != nil {
		tb.Fatal(err)
	}
	return e, addrs
}

func hashedRequest(name, value string) *call.Request {
	return &call.Request{Method: "GET", Scheme: "http", Host: "svc", Port: 80, Authority: "svc", Path: "/",
		Headers: call.HTTPHeaders(http.Header{name: {value}})}
}

// once makes one call and gives its endpoint.
func once(tb testing.TB, e *Engine, q *call.Request) string {
	var c Call
	if step := e.Begin(tb.Context(), &c, q); step.Kind != Forward {
		tb.Fatal(step.Err)
	}
	a, err := c.Pick(nil)
	if err != nil {
		tb.Fatal(err)
	}
	a.Finish()
	c.End(nil)
	return a.Endpoint.Def.Address.Addr
}

func TestCallsStayTogether(t *testing.T) {
	t.Parallel()
	for _, a := range []balance.Algorithm{balance.RingHash, balance.Maglev} {
		e, addrs := hashRig(t, snapshot.HashPolicy{Kind: snapshot.HashHeader, Header: call.NewName("x-user")}, a)
		got := map[string]int{}
		for i := range 300 {
			q := hashedRequest("X-User", fmt.Sprint(i))
			first := once(t, e, q)
			got[first]++
			for range 5 {
				if again := once(t, e, q); again != first {
					t.Fatalf("%v: %d went to %s and to %s", a, i, first, again)
				}
			}
		}
		for _, addr := range addrs {
			if got[addr] < 50 {
				t.Errorf("%v: %v", a, got)
			}
		}
		// Without what is hashed they do not.
		got = map[string]int{}
		for range 300 {
			got[once(t, e, hashedRequest("X", ""))]++
		}
		if len(got) != len(addrs) {
			t.Errorf("%v: %v", a, got)
		}
	}
}

// TestCookieIsMade: who has none is given one, and it leads where the call went.
func TestCookieIsMade(t *testing.T) {
	t.Parallel()
	e, _ := hashRig(t, snapshot.HashPolicy{Kind: snapshot.HashCookie, Name: "s", Cookie: &snapshot.Cookie{Path: "/"}}, balance.RingHash)
	for range 50 {
		q := hashedRequest("X", "")
		var c Call
		e.Begin(t.Context(), &c, q)
		a, err := c.Pick(nil)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{"Set-Cookie": {"other=1"}}
		if !c.EditsResponse() {
			t.Fatal("the answer is not edited")
		}
		c.EditResponse(call.HTTPHeaders(h), q, 200)
		a.Finish()
		set := h["Set-Cookie"]
		if len(set) != 2 || set[0] != "other=1" {
			t.Fatalf("%q", set)
		}
		cookie, err := http.ParseSetCookie(set[1])
		if err != nil || cookie.Name != "s" || cookie.Path != "/" || !cookie.HttpOnly {
			t.Fatalf("%q: %v", set[1], err)
		}
		if again := once(t, e, hashedRequest("Cookie", "s="+cookie.Value)); again != a.Endpoint.Def.Address.Addr {
			t.Errorf("%s went to %s and to %s", cookie.Value, a.Endpoint.Def.Address.Addr, again)
		}
		var other Call
		e.Begin(t.Context(), &other, hashedRequest("Cookie", "s="+cookie.Value))
		if other.EditsResponse() {
			t.Error("who has a cookie is given another one")
		}
	}
}

// TestHashedPickAllocs: keeping calls together costs no allocation.
func TestHashedPickAllocs(t *testing.T) {
	for name, c := range map[string]struct {
		policy snapshot.HashPolicy
		q      *call.Request
	}{
		"header": {snapshot.HashPolicy{Kind: snapshot.HashHeader, Header: call.NewName("x-user")}, hashedRequest("X-User", "jason")},
		"cookie": {snapshot.HashPolicy{Kind: snapshot.HashCookie, Name: "s", Cookie: &snapshot.Cookie{}}, hashedRequest("Cookie", `a=b; s="0123456789abcdef"`)},
		"query":  {snapshot.HashPolicy{Kind: snapshot.HashQuery, Name: "u"}, &call.Request{Method: "GET", Scheme: "http", Host: "svc", Port: 80, Path: "/", Query: "a=b&u=1"}},
		"source": {snapshot.HashPolicy{Kind: snapshot.HashSource}, &call.Request{Method: "GET", Scheme: "http", Host: "svc", Port: 80, Path: "/", Source: netip.MustParseAddr("2001:db8::1")}},
		"none":   {snapshot.HashPolicy{}, hashedRequest("X-User", "jason")},
	} {
		e, _ := hashRig(t, c.policy, balance.RingHash)
		if n := testing.AllocsPerRun(200, func() { once(t, e, c.q) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, c := range []struct {
		name   string
		policy snapshot.HashPolicy
		a      balance.Algorithm
	}{
		{"LEAST_REQUEST", snapshot.HashPolicy{}, balance.LeastRequest},
		{"RING_HASH by header", snapshot.HashPolicy{Kind: snapshot.HashHeader, Header: call.NewName("x-user")}, balance.RingHash},
		{"MAGLEV by header", snapshot.HashPolicy{Kind: snapshot.HashHeader, Header: call.NewName("x-user")}, balance.Maglev},
		{"RING_HASH by cookie", snapshot.HashPolicy{Kind: snapshot.HashCookie, Name: "s"}, balance.RingHash},
	} {
		b.Run(c.name, func(b *testing.B) {
			e, _ := hashRig(b, c.policy, c.a)
			q := &call.Request{Method: "GET", Scheme: "http", Host: "svc", Port: 80, Authority: "svc", Path: "/",
				Headers: call.HTTPHeaders(http.Header{"X-User": {"jason"}, "Cookie": {"a=b; s=0123456789abcdef"}})}
			b.ReportAllocs()
			for b.Loop() {
				once(b, e, q)
			}
		})
	}
}
