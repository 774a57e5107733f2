package external

import (
	"context"
	"net/http"
	"net/netip"
	"time"
)

// An Authorizer decides about requests that CUSTOM policies select. It is asked concurrently.
type Authorizer interface {
	// Authorize decides about one request. ctx ends when the provider's time-out has passed, and when who made the
	// request has gone; what comes later counts for nothing. An error is a failure: the request is refused with the
	// provider's statusOnError, or let in where its failOpen says so. It must not keep c, nor what c points to.
	Authorize(ctx context.Context, c *Check) (Answer, error)
}

// AuthorizerFunc is a function as an Authorizer.
type AuthorizerFunc func(ctx context.Context, c *Check) (Answer, error)

// Authorize implements Authorizer.
func (f AuthorizerFunc) Authorize(ctx context.Context, c *Check) (Answer, error) { return f(ctx, c) }

// A Check is what is known of a request when somebody is asked about it: before its token is looked at (Envoy,
// AttributeContext). Nothing in it may be changed.
type Check struct {
	Policy   string    // the rule that asks, "ns[default]-policy[ask]-rule[0]"
	Provider string    // the name that the policy gives
	ID       string    // the request's x-request-id, or one that is made for the question
	Time     time.Time // when it came

	Method, Scheme, Host string // Host as it came: the Host header or :authority
	// Path is in the spelling that the program will see, without the query.
	Path, Query string
	Protocol    string // "HTTP/1.1", "HTTP/2"
	// Header is what came, but for x-forwarded-client-cert, which is that of the verified peer, and without fields that
	// concern one connection. Keys are canonical. "Host" is not in it.
	Header http.Header
	// Body is the beginning of the request's body, where the provider asks for it; Partial says that there is more of it.
	Body    []byte
	Partial bool
	// WithBody says that the provider asks for the body, Raw that it wants it as bytes (packAsBytes).
	WithBody, Raw bool
	Size          int64 // of the body where the caller has said so, else -1

	Source netip.AddrPort // the other end of the connection; invalid where it is not known, with port 0 where that is not
	Local  netip.AddrPort // this end
	Peer   string         // the verified peer, "spiffe://cluster.local/ns/default/sa/web"; "" for nobody
	Self   string         // the program's own identity in that form, "" for none
	SNI    string         // "" for a connection without TLS

	// Trail goes with the question as the field x-heddle-check: who has asked for the sake of whom. By it a mesh
	// refuses to ask about its own question.
	Trail string
}

// TrailHeader is the field that a question carries its Trail in.
const TrailHeader = "X-Heddle-Check"

// PartialBody is the field that tells an authorizer whether it has all of the body (Envoy's x-envoy-auth-partial-body).
const PartialBody = "X-Envoy-Auth-Partial-Body"

// An Answer is the decision. The zero Answer denies with 403.
type Answer struct {
	Allowed bool
	// Failed says that the authorizer could not decide (Envoy, ErrorHttpResponse). It goes before Allowed.
	Failed bool

	// Status, Body and Denied are what the caller is told who is not let in: from 200 to 599, 0 for 403, or for the
	// provider's statusOnError where Failed; at most MaxBody bytes; fields of the header.
	Status int
	Body   string
	Denied []Edit

	// Request changes the header that the program, tokens and policies see, and Response that of the program's answer.
	Request, Response []Edit
	// SetQuery gives query parameters, in place of all of that name, and RemoveQuery takes some away.
	SetQuery    []Parameter
	RemoveQuery []string
}

// A Parameter is one of a query, unescaped.
type Parameter struct{ Name, Value string }
