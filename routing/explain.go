package routing

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// A Trial says how one rule's match fared with a request.
type Trial struct {
	Route  string `json:"route"`
	Origin string `json:"origin,omitempty"`
	// Match describes the conditions; "any request" where there are none.
	Match   string `json:"match"`
	Matched bool   `json:"matched"`
	// Why is the first condition that failed, or for a rule after the one that won, that it was not tried.
	Why string `json:"why,omitempty"`
}

// Explain tries the rules one after the other, as the document lists them, and says how each fared. Its
// last word is Match's: both read the same matchers, but Explain does not use the index.
func (v *VirtualHost) Explain(q *call.Request) (won *Route, by *Match, trials []Trial) {
	try := func(r *Route, m *Match) {
		t := Trial{Route: r.Name, Origin: r.Origin, Match: "any request"}
		if m != nil {
			t.Route, t.Match = m.full, m.String()
		}
		switch {
		case won != nil:
			t.Why = "not tried: an earlier rule matched"
		case m != nil:
			t.Why = m.why(q)
		}
		t.Matched = t.Why == ""
		if t.Matched {
			won, by = r, m
		}
		trials = append(trials, t)
	}
	for _, r := range v.Routes {
		if len(r.Matches) == 0 {
			try(r, nil)
		}
		for i := range r.Matches {
			try(r, &r.Matches[i])
		}
	}
	return won, by, trials
}

// Effects says in words what the route does to the request, which m took, beside sending it to a destination.
func (r *Route) Effects(q *call.Request, m *Match) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if r.CORS != nil {
		switch allowed, preflight := r.CORS.Judge(q); {
		case preflight:
			say("the CORS preflight is answered here")
		case allowed != "":
			say("CORS allows origin %s", call.Printable(allowed))
		default:
			say("CORS headers for allowed origins; this request has none")
		}
	}
	if f := r.Fault; f != nil {
		if f.DelayShare > 0 {
			say("fault: delay of %v for %s of calls", f.Delay, percent(f.DelayShare))
		}
		switch {
		case f.AbortShare == 0:
		case f.AbortGRPC != 0:
			say("fault: abort with grpc-status %d for %s of calls", f.AbortGRPC-1, percent(f.AbortShare))
		default:
			say("fault: abort with %d for %s of calls", f.AbortStatus, percent(f.AbortShare))
		}
	}
	if r.Redirect != nil {
		say("redirect %d to %s", r.Redirect.Code, call.Printable(r.Redirect.Location(q, m)))
	}
	if r.Direct != nil {
		say("direct response %d with %d bytes", r.Direct.Status, len(r.Direct.Body))
	}
	if !r.Answer.Empty() && (r.Redirect != nil || r.Direct != nil) {
		say("response headers: %s", r.Answer)
	}
	if path, safe := r.Rewrite.PathOf(q, m); !safe {
		say("path: %s, which has no safe spelling: the call is refused", call.Printable(path))
	} else if path != q.Path {
		say("path becomes %s", call.Printable(path))
	}
	if r.Rewrite != nil && r.Rewrite.Authority != "" {
		say("authority becomes %s", r.Rewrite.Authority)
	}
	if r.Timeout > 0 {
		say("time-out of %v over all tries", r.Timeout)
	}
	if r.Retry != nil && r.Retry.PerTry > 0 {
		say("time-out of %v of each try, up to its answer's head", r.Retry.PerTry)
	}
	if r.Preset != "" {
		say("%s", r.Preset)
	}
	for i := range r.Mirrors {
		to := r.Mirrors[i].Cluster
		if r.Mirrors[i].Missing != "" {
			to += ", which does not exist: " + r.Mirrors[i].Missing
		}
		say("mirror: %s of calls to %s", percent(r.Mirrors[i].Share), to)
	}
	return all
}

// Effects says in words what the destination changes of what goes there and comes from there.
func (d *Destination) Effects() []string {
	var all []string
	if d.Authority != "" {
		all = append(all, "authority becomes "+d.Authority)
	}
	if !d.Request.Empty() {
		all = append(all, "request headers: "+d.Request.String())
	}
	if !d.Response.Empty() {
		all = append(all, "response headers: "+d.Response.String())
	}
	return all
}

// String lists the operations in the order in which they are carried out.
func (o *HeaderOps) String() string {
	var all []string
	for _, n := range o.Remove {
		all = append(all, "remove "+n.Lower())
	}
	for i := range o.Edits {
		verb := "set "
		if o.Edits[i].Add {
			verb = "add "
		}
		all = append(all, verb+o.Edits[i].Name.Lower())
	}
	if !o.Then.Empty() {
		all = append(all, "then "+o.Then.String())
	}
	return strings.Join(all, ", ")
}

func percent(perMillion uint32) string {
	return strconv.FormatFloat(float64(perMillion)/1e4, 'f', -1, 64) + " %"
}
