package accesslog

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
)

// A Filter says which entries are logged (Telemetry accessLogging[].filter): the comparisons and boolean operators of CEL over
// the attributes of Envoy's. It is immutable; nil lets all through.
type Filter struct {
	text   string
	root   node
	answer bool // fields of the answer are asked for
}

// String gives the expression as it was written.
func (f *Filter) String() string { return f.text }

// Match reports whether the expression is true of the entry. One that needs what is not there — a field of a header that the
// request has not, the status of an RPC that is none — is not, as in Envoy; || and && look at their other side first.
func (f *Filter) Match(e *Entry) bool {
	if f == nil {
		return true
	}
	v := f.root.eval(e)
	return v.is == isBool && v.yes
}

// A result is what an expression is worth.
type result struct {
	is   resultKind
	yes  bool
	n    float64
	text string
}

type resultKind uint8

const (
	isMissing resultKind = iota
	isBool
	isNumber
	isText
	isDuration // in n, seconds
	isList
)

func (k resultKind) String() string {
	return [...]string{"nothing", "a truth value", "a number", "a text", "a duration", "a list"}[k]
}

// A node is one operation. Its kind is known before any request is.
type node interface {
	kind() resultKind
	eval(e *Entry) result
}

type constant struct{ result }

func (c constant) kind() resultKind   { return c.is }
func (c constant) eval(*Entry) result { return c.result }

// A list stands behind "in" only.
type list []result

func (list) kind() resultKind   { return isList }
func (list) eval(*Entry) result { return result{} }

type attribute struct {
	of   resultKind
	name *call.Name // of a field
	give func(a *attribute, e *Entry) result
}

func (a *attribute) kind() resultKind     { return a.of }
func (a *attribute) eval(e *Entry) result { return a.give(a, e) }

type not struct{ x node }

func (not) kind() resultKind { return isBool }

func (n not) eval(e *Entry) result {
	v := n.x.eval(e)
	v.yes = !v.yes
	return v
}

// has reports that there is what it names.
type has struct{ x node }

func (has) kind() resultKind { return isBool }

func (h has) eval(e *Entry) result {
	return result{is: isBool, yes: h.x.eval(e).is != isMissing}
}

// A junction is && or ||: the one side that decides does so whatever the other is.
type junction struct {
	x, y    node
	decides bool // true for ||
}

func (junction) kind() resultKind { return isBool }

func (j junction) eval(e *Entry) result {
	x := j.x.eval(e)
	if x.is == isBool && x.yes == j.decides {
		return x
	}
	y := j.y.eval(e)
	if x.is == isMissing && (y.is == isMissing || y.yes != j.decides) {
		return x
	}
	return y
}

type comparison struct {
	x, y node
	op   string
}

func (comparison) kind() resultKind { return isBool }

func (c comparison) eval(e *Entry) result {
	x, y := c.x.eval(e), c.y.eval(e)
	if x.is == isMissing || y.is == isMissing {
		return result{}
	}
	order := 0
	switch {
	case x.is == isText:
		order = strings.Compare(x.text, y.text)
	case x.is == isBool && x.yes != y.yes:
		order = 1
	case x.n < y.n:
		order = -1
	case x.n > y.n:
		order = 1
	}
	yes := false
	switch c.op {
	case "==":
		yes = order == 0
	case "!=":
		yes = order != 0
	case "<":
		yes = order < 0
	case "<=":
		yes = order <= 0
	case ">":
		yes = order > 0
	case ">=":
		yes = order >= 0
	}
	return result{is: isBool, yes: yes}
}

type membership struct {
	x   node
	all list
}

func (membership) kind() resultKind { return isBool }

func (m membership) eval(e *Entry) result {
	x := m.x.eval(e)
	if x.is == isMissing {
		return x
	}
	return result{is: isBool, yes: slices.Contains(m.all, x)}
}

// A method is one of a text's.
type method struct {
	x    node
	test func(text string) bool
}

func (method) kind() resultKind { return isBool }

func (m method) eval(e *Entry) result {
	x := m.x.eval(e)
	if x.is == isMissing {
		return x
	}
	return result{is: isBool, yes: m.test(x.text)}
}

func textAttribute(give func(e *Entry) string) attribute {
	return attribute{of: isText, give: func(_ *attribute, e *Entry) result { return present(give(e)) }}
}

func numberAttribute(give func(e *Entry) int64) attribute {
	return attribute{of: isNumber, give: func(_ *attribute, e *Entry) result { return result{is: isNumber, n: float64(give(e))} }}
}

func present(s string) result {
	if s == "" {
		return result{}
	}
	return result{is: isText, text: s}
}

func header(name string) func(e *Entry) string {
	n := call.NewName(name)
	return func(e *Entry) string {
		if e.Request == nil {
			return ""
		}
		s, _ := e.Request.Value(n, 0)
		return s
	}
}

// attributes are Envoy's (intro/arch_overview/advanced/attributes) as far as they are known here. Fields of headers are
// request.headers['name'] and response.headers['name'].
var attributes = map[string]attribute{
	"request.method":   textAttribute(func(e *Entry) string { return e.Method }),
	"request.url_path": textAttribute(func(e *Entry) string { return e.Path }),
	"request.path": textAttribute(func(e *Entry) string {
		if e.Query == "" {
			return e.Path
		}
		return e.Path + "?" + e.Query
	}),
	"request.query":     {of: isText, give: func(_ *attribute, e *Entry) result { return result{is: isText, text: e.Query} }},
	"request.host":      textAttribute(func(e *Entry) string { return e.Authority }),
	"request.scheme":    textAttribute(func(e *Entry) string { return e.Scheme }),
	"request.protocol":  textAttribute(func(e *Entry) string { return e.Protocol }),
	"request.useragent": textAttribute(header("user-agent")),
	"request.referer":   textAttribute(header("referer")),
	"request.id":        textAttribute(header("x-request-id")),
	"request.size":      numberAttribute(func(e *Entry) int64 { return int64(e.RequestBytes) }),
	"request.duration": {of: isDuration, give: func(_ *attribute, e *Entry) result {
		return result{is: isDuration, n: e.Duration.Seconds()}
	}},
	"response.code": {of: isNumber, give: func(_ *attribute, e *Entry) result {
		if e.Code == 0 {
			return result{}
		}
		return result{is: isNumber, n: float64(e.Code)}
	}},
	"response.code_details": textAttribute(func(e *Entry) string { return e.Details }),
	"response.flags":        numberAttribute(func(e *Entry) int64 { return e.Flags.Bits() }),
	"response.grpc_status": {of: isNumber, give: func(_ *attribute, e *Entry) result {
		if e.GRPC == 0 {
			return result{}
		}
		return result{is: isNumber, n: float64(e.GRPC) - 1}
	}},
	"response.size": numberAttribute(func(e *Entry) int64 { return int64(e.ResponseBytes) }),
	"connection.mtls": {of: isBool, give: func(_ *attribute, e *Entry) result {
		return result{is: isBool, yes: e.Peer != "" && e.Reporter == telemetry.Destination}
	}},
	"connection.requested_server_name":    textAttribute(func(e *Entry) string { return e.SNI }),
	"connection.uri_san_peer_certificate": textAttribute(func(e *Entry) string { return e.Peer }),
	"source.address": textAttribute(func(e *Entry) string {
		if !e.Remote.IsValid() {
			return ""
		}
		return e.Remote.String()
	}),
	"source.port":                    numberAttribute(func(e *Entry) int64 { return int64(e.Remote.Port()) }),
	"destination.port":               numberAttribute(func(e *Entry) int64 { return int64(e.Local.Port()) }),
	"upstream.address":               textAttribute(func(e *Entry) string { return e.Endpoint }),
	"upstream.request_attempt_count": numberAttribute(func(e *Entry) int64 { return int64(e.Attempts) }),
	"xds.cluster_name":               textAttribute(func(e *Entry) string { return e.Cluster }),
	"xds.route_name":                 textAttribute(func(e *Entry) string { return e.Route }),
}

func fieldAttribute(of, name string) *attribute {
	give := func(a *attribute, e *Entry) result {
		h := e.Request
		if of == "response" {
			h = e.Response
		}
		if h == nil {
			return result{}
		}
		s, ok := h.Value(a.name, 0)
		if !ok {
			return result{}
		}
		return result{is: isText, text: s}
	}
	return &attribute{of: isText, name: call.NewName(name), give: give}
}

// durationOf reads the text of duration('…').
func durationOf(s string) (result, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return result{}, fmt.Errorf("%q is no duration: write one such as '1.5s'", s)
	}
	return result{is: isDuration, n: d.Seconds()}, nil
}
