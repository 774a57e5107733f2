package routing

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// A ConnRule is a rule for connections that are not HTTP (Istio's TCPRoute and TLSRoute). Of its route the destinations count.
type ConnRule struct {
	Route *Route
	// Matches are ORed; none means that the rule takes every connection.
	Matches []ConnMatch
}

// A ConnMatch is one entry of such a rule's match list: all its fields must hold. What is about the calling workload and the port
// was decided when the table was compiled.
type ConnMatch struct {
	// Names are the hosts that a ClientHello may name, canonical, "*.example.com" and "*" among them; none for any connection.
	Names []string
	// To are the addresses that a connection may have been made to; none for any.
	To []netip.Prefix
}

// Takes reports whether the connection satisfies all conditions.
func (m *ConnMatch) Takes(c call.Connection) bool { return m.why(c) == "" }

// why says which condition the connection fails, "" where it passes all.
func (m *ConnMatch) why(c call.Connection) string {
	if len(m.Names) > 0 && !slices.ContainsFunc(m.Names, func(name string) bool { return namesHost(name, c.ServerName) }) {
		return "the ClientHello names another host, or none"
	}
	if len(m.To) > 0 && !slices.ContainsFunc(m.To, func(p netip.Prefix) bool { return p.Contains(c.To) }) {
		return "the connection was made to another address, or to none that is known"
	}
	return ""
}

// namesHost: a wildcard takes names below its domain and not the domain itself (TLSMatchAttributes.sniHosts).
func namesHost(pattern, name string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return len(name) > len(suffix) && strings.HasSuffix(name, suffix)
	}
	return name == pattern
}

// String lists the conditions as people write them.
func (m *ConnMatch) String() string {
	var c []string
	if len(m.Names) > 0 {
		c = append(c, "SNI "+strings.Join(m.Names, " or "))
	}
	if len(m.To) > 0 {
		c = append(c, fmt.Sprintf("destination %v", m.To))
	}
	if len(c) == 0 {
		return anyConnection
	}
	return strings.Join(c, ", ")
}

const anyConnection = "any connection"

// Named reports whether the rules ask for the name in a ClientHello.
func (v *VirtualHost) Named() bool {
	return slices.ContainsFunc(v.Conns, func(r *ConnRule) bool {
		return slices.ContainsFunc(r.Matches, func(m ConnMatch) bool { return len(m.Names) > 0 })
	})
}

// All gives the routes that calls of plain HTTP, or connections that are not HTTP, can take, in the order in which they are tried.
func (v *VirtualHost) All() iter.Seq[*Route] {
	return func(yield func(*Route) bool) {
		if v.HTTP {
			for _, r := range v.Routes {
				if !yield(r) {
					return
				}
			}
			return
		}
		for _, r := range v.Conns {
			if !yield(r.Route) {
				return
			}
		}
		if rest := v.Rest(); rest != nil {
			yield(rest)
		}
	}
}

// Rest gives the route of connections that none of Conns takes: Default, but on a port of TLS with rules nil, for nowhere: what they do
// not take is not the host's (istio.io, pilot/pkg/networking/core/tls.go).
func (v *VirtualHost) Rest() *Route {
	if v.TLS && len(v.Conns) > 0 {
		return nil
	}
	return v.Default
}

// MatchConn gives the route of a connection that rules of HTTP do not apply to: that of the first rule that takes it, else
// Rest, which may be nil: then it goes where calls go that the mesh does not know.
func (v *VirtualHost) MatchConn(q *call.Request) *Route {
	if len(v.Conns) == 0 {
		return v.Default
	}
	c := connectionOf(q)
	for _, r := range v.Conns {
		if len(r.Matches) == 0 {
			return r.Route
		}
		for i := range r.Matches {
			if r.Matches[i].Takes(c) {
				return r.Route
			}
		}
	}
	return v.Rest()
}

// connectionOf gives what rules see of the request's connection. Of a program's own TLS that is not more than the host it calls.
func connectionOf(q *call.Request) (c call.Connection) {
	if q.Conn != nil {
		return *q.Conn
	}
	if q.Scheme == "https" {
		c.ServerName = q.Host
	}
	c.To, _ = netip.ParseAddr(q.Host)
	return c
}

// ExplainConn is MatchConn with how each rule fared.
func (v *VirtualHost) ExplainConn(q *call.Request) (won *Route, trials []Trial) {
	c := connectionOf(q)
	try := func(r *ConnRule, conditions, why string) {
		if won != nil {
			why = "not tried: an earlier rule matched"
		}
		if why == "" {
			won = r.Route
		}
		trials = append(trials, Trial{Route: r.Route.Name, Origin: r.Route.Origin, Match: conditions, Matched: why == "", Why: why})
	}
	for _, r := range v.Conns {
		if len(r.Matches) == 0 {
			try(r, anyConnection, "")
		}
		for i := range r.Matches {
			try(r, r.Matches[i].String(), r.Matches[i].why(c))
		}
	}
	if won == nil {
		won = v.Rest()
	}
	return won, trials
}

// LookupName finds the host of a connection by the name in its ClientHello: the host of that name, or else the first whose rules
// ask for it. It gives nil where neither is there, or the host's port is none on which such names count.
func (t *Table) LookupName(name string, port uint16) *VirtualHost {
	if v, _ := t.Lookup(name, port); v != nil {
		if !v.TLS {
			return nil
		}
		return v
	}
	for _, v := range t.On(port).named {
		for _, r := range v.Conns {
			for i := range r.Matches {
				if slices.ContainsFunc(r.Matches[i].Names, func(pattern string) bool { return namesHost(pattern, name) }) {
					return v
				}
			}
		}
	}
	return nil
}
