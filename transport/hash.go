package transport

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

var (
	cookieField    = call.NewName("cookie")
	setCookieField = call.NewName("set-cookie")
)

// keepTogether hashes what the cluster keeps calls together by, as Envoy does (hash_policy.cc). A request that has
// no cookie is given one where the cluster makes cookies: EditResponse sends it with the answer.
func (c *Call) keepTogether(q *call.Request) {
	p := &c.cluster.def.Policy.Hash
	c.hash, c.hashed = hashOf(p, q)
	if p.Cookie == nil || c.hashed {
		return
	}
	var b [16]byte
	c.cookie = string(strconv.AppendUint(b[:0], c.engine.rand(), 16))
	c.hash, c.hashed = balance.Hash(c.cookie, 0), true
}

// hashOf hashes the part of a request that the policy names. It reports false for a request without it.
func hashOf(p *snapshot.HashPolicy, q *call.Request) (hash uint64, ok bool) {
	switch p.Kind {
	case snapshot.HashHeader:
		return hashField(q.Headers, p.Header)
	case snapshot.HashCookie:
		v := cookieValue(q.Headers, p.Name)
		return balance.Hash(v, 0), v != ""
	case snapshot.HashSource:
		return hashSource(q.Source)
	case snapshot.HashQuery:
		v, ok := routing.QueryValue(q.Query, p.Name)
		return balance.Hash(v, 0), ok
	}
	return 0, false
}

// hashField hashes a field's values in an order of their own: which of them came first does not matter.
func hashField(h call.Headers, n *call.Name) (hash uint64, ok bool) {
	v, ok := h.Value(n, 0)
	if !ok {
		return 0, false
	}
	second, several := h.Value(n, 1)
	if !several {
		return balance.Hash(v, 0), true
	}
	var few [8]string
	all := append(few[:0], v)
	for i := 2; several; i++ {
		all = append(all, second)
		second, several = h.Value(n, i)
	}
	slices.Sort(all)
	for _, v := range all {
		hash = balance.Hash(v, hash)
	}
	return hash, true
}

// hashSource hashes the text of the address.
func hashSource(a netip.Addr) (hash uint64, ok bool) {
	if !a.IsValid() {
		return 0, false
	}
	var b [64]byte
	return balance.HashBytes(a.AppendTo(b[:0])), true
}

// cookieValue finds the first cookie of the name, without the quotes around its value. "" where there is none.
func cookieValue(h call.Headers, name string) string {
	for i := 0; ; i++ {
		line, ok := h.Value(cookieField, i)
		if !ok {
			return ""
		}
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			key, value, ok := strings.Cut(pair, "=")
			if !ok || strings.Trim(key, " \t") != name {
				continue
			}
			value = strings.Trim(value, " \t")
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			return value
		}
	}
}

// setCookie is the field that gives the caller its cookie (Envoy, makeSetCookieValue: it is always HttpOnly).
func setCookie(name, value string, p *snapshot.Cookie) string {
	var b strings.Builder
	b.WriteString(name + `="` + value + `"`)
	if age := int64(p.TTL / time.Second); age > 0 { // 0 would take the cookie back
		b.WriteString("; Max-Age=" + strconv.FormatInt(age, 10))
	}
	if p.Path != "" {
		b.WriteString("; Path=" + p.Path)
	}
	for _, a := range p.Attributes {
		b.WriteString("; " + a.Name)
		if a.Value != "" {
			b.WriteString("=" + a.Value)
		}
	}
	b.WriteString("; HttpOnly")
	return b.String()
}
