package routing

import (
	"net/http"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// CORS lets browsers call from other origins (CorsPolicy; Envoy, CORS filter; Fetch standard, CORS
// protocol). It only tells browsers: who is no browser is not held back.
type CORS struct {
	Origins       []call.StringMatch
	AllowMethods  string // comma-separated, as the header carries it; "" leaves it out, "*" echoes what is asked for
	AllowHeaders  string
	ExposeHeaders string
	MaxAge        string // seconds
	Credentials   bool
	// AnswerUnmatched answers a preflight from an origin that is not allowed, with no CORS header; otherwise it
	// goes to the service (CorsPolicy.unmatchedPreflights IGNORE).
	AnswerUnmatched bool
}

// The headers of the CORS protocol.
var (
	origin           = call.NewName("origin")
	requestMethod    = call.NewName("access-control-request-method")
	requestHeaders   = call.NewName("access-control-request-headers")
	allowOrigin      = call.NewName("access-control-allow-origin")
	allowMethods     = call.NewName("access-control-allow-methods")
	allowHeaders     = call.NewName("access-control-allow-headers")
	allowCredentials = call.NewName("access-control-allow-credentials")
	exposeHeaders    = call.NewName("access-control-expose-headers")
	maxAge           = call.NewName("access-control-max-age")
	vary             = call.NewName("vary")
)

// Judge reads the request's origin, "" where it has none that is allowed, and says whether the request is a
// preflight that is answered here.
func (c *CORS) Judge(q *call.Request) (allowed string, preflight bool) {
	if q.Headers == nil {
		return "", false
	}
	from, ok := q.Headers.Value(origin, 0)
	if !ok || from == "" {
		return "", false
	}
	for i := range c.Origins {
		if c.Origins[i].Match(from) {
			allowed = from
			break
		}
	}
	if q.Method != http.MethodOptions {
		return allowed, false
	}
	method, ok := q.Headers.Value(requestMethod, 0)
	preflight = ok && method != ""
	return allowed, preflight && (allowed != "" || c.AnswerUnmatched)
}

// Answer writes the header of the answer to q, a preflight from an allowed origin.
func (c *CORS) Answer(h call.HeaderEditor, q *call.Request, allowed string) {
	if allowed == "" {
		return
	}
	c.credit(h, allowed)
	for _, f := range [...]struct {
		name  *call.Name
		value string
		asked *call.Name
	}{{allowMethods, c.AllowMethods, requestMethod}, {allowHeaders, c.AllowHeaders, requestHeaders}, {maxAge, c.MaxAge, nil}} {
		value := f.value
		if value == "*" { // which browsers take literally where there are credentials (Fetch standard, CORS protocol)
			value, _ = q.Headers.Value(f.asked, 0)
		}
		if value != "" {
			h.Set(f.name, value)
		}
	}
}

// Mark writes what a service's answer to an allowed origin carries. The origin is echoed, never "*".
func (c *CORS) Mark(h call.HeaderEditor, allowed string) {
	c.credit(h, allowed)
	if c.ExposeHeaders != "" {
		h.Set(exposeHeaders, c.ExposeHeaders)
	}
}

func (c *CORS) credit(h call.HeaderEditor, allowed string) {
	h.Set(allowOrigin, allowed)
	if c.Credentials {
		h.Set(allowCredentials, "true")
	}
	// Answers differ by origin: a cache must know (Fetch standard, CORS protocol and HTTP caches).
	for i := 0; ; i++ {
		v, ok := h.Value(vary, i)
		if !ok {
			break
		}
		if v == "*" || containsToken(v, "origin") {
			return
		}
	}
	h.Add(vary, "Origin")
}

// containsToken reports whether a comma-separated list has the token, in any case.
func containsToken(list, token string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(part), token) {
			return true
		}
	}
	return false
}
