package proxy

import (
	"net/http"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport/http1"
)

// aim reads where the request goes, or says how it is answered if it goes nowhere.
func (x *exchange) aim() *LocalReply {
	q := &x.q
	inbound := x.s.wire.mesh == nil
	if l := refusedMethod(q.Method()); l != nil && !x.connects() {
		return l
	}
	switch {
	case q.Scheme() == "https" && !inbound:
		l := badRequest("only http is proxied; a program's own TLS goes to its host directly")
		return &l
	}
	x.host = ""
	if authority := q.Authority(); authority != "" || q.Minor() > 0 || !inbound {
		var err error
		if x.host, err = canonicalHost(authority); err != nil {
			l := badRequest("malformed host")
			l.Err = err
			return &l
		}
	}
	x.forth.asked = x.s.caller == nil
	x.forth.sift(&q.Fields)
	x.forth.caller = x.s.caller
	if x.forth.alike {
		l := badRequest("a field name is like one that frames a message")
		return &l
	}
	x.protocol = x.offer()
	path, anew := spell(q.Path())
	level := call.PathBase
	if inbound {
		level = x.s.wire.engine.Paths()
	}
	canonical, ok := level.Spell(path)
	if !ok && inbound {
		l := badRequest("the path has no safe spelling")
		return &l
	}
	x.target = q.Origin()
	if anew || inbound && canonical != path {
		x.aimAt(canonical, q.Query())
	}
	x.view = call.Request{Method: q.Method(), Scheme: "http", Authority: x.host, Path: canonical, Query: q.Query(),
		Protocol: "HTTP/1.1", Headers: &x.forth, Source: sourceOf(x.s.nc), Room: &x.room}
	if q.Minor() == 0 {
		x.view.Protocol = "HTTP/1.0"
	}
	if x.host != "" {
		x.view.Host, x.view.Port, _ = call.SplitAuthority(x.host) // it is canonical
	}
	if x.view.Port == 0 {
		x.view.Port = 80
	}
	x.view.Scope = x.s.wire.scope
	if x.s.wire.port != 0 {
		x.view.Port = x.s.wire.port
	}
	if !inbound && x.s.to.IsValid() { // which the program has connected to, whatever Host says
		x.view.Port = x.s.to.Port()
		x.view.Host = x.s.wire.captor.names.named(x.view.Host)
	}
	return nil
}

// aimAt puts path and query together; a path that a rule has made may have a query of its own.
func (x *exchange) aimAt(path, query string) {
	switch {
	case query != "":
		x.target = x.room.Join(path, "?", query)
	case strings.HasSuffix(x.q.Target(), "?") && !strings.Contains(path, "?"):
		x.target = x.room.Join(path, "?")
	default:
		x.target = path
	}
}

// offer gives the protocol that the request asks to switch to, of those that are tunnelled (see upgradeOf).
func (x *exchange) offer() string {
	q := &x.q
	if !q.Has(http1.FieldUpgrade) || q.Minor() < 1 || q.Method() != http.MethodGet || q.Body.Framing() != http1.NoBody {
		return ""
	}
	if _, several := q.Known(http1.FieldUpgrade, 1); several || !q.Lists(http1.FieldConnection, "upgrade") {
		return ""
	}
	if v, _ := q.Known(http1.FieldUpgrade, 0); !strings.EqualFold(v, "websocket") {
		return ""
	}
	return "websocket"
}
