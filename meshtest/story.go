package meshtest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/resilience"
)

// Story tells of the call that began last on [Env.Client] or a channel of [Env.Dial]: request, rule with file and line, cluster, the
// endpoints tried, what became of each and why it was or was not repeated, the answer, and why it went there. It is logged by itself when
// the test has failed. Of calls that ran at the same time the outcomes can be mixed up where they met at
// one endpoint.
func (e *Env) Story() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last == nil {
		return "the last call: there was none on Env.Client or a channel of Env.Dial\n"
	}
	return e.tell(e.last)
}

// failure is the story for the message of a failure, which then need not be told again.
func (e *Env) failure() string {
	s := e.Story()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = e.last
	return s
}

// untold is the story where there is one that no failure has told.
func (e *Env) untold() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last == e.told {
		return ""
	}
	return e.tell(e.last)
}

// tell tells of a call. e.mu is held.
func (e *Env) tell(r *record) string {
	var b strings.Builder
	p := func(heading, format string, args ...any) {
		fmt.Fprintf(&b, "  %-9s %s\n", heading, fmt.Sprintf(format, args...))
	}
	b.WriteString("the last call:\n")
	p("request", "%s", requestText(r.method, r.url, r.header))
	p("from", "%s", e)
	if r.decision.Route != "" {
		p("rule", "%s, route %q", r.files.in(r.decision.Origin), r.decision.Route)
	} else {
		p("rule", "none")
	}
	events := e.world.net.since(r.from)
	if r.done {
		events = events[:r.to-r.from]
		if r.info.Cluster != "" {
			p("cluster", "%s", r.info.Cluster)
		}
	}
	for n, try := range r.tries(events) {
		who := try.address
		if i := e.world.net.at(try.address); i != nil {
			who = i.String()
		}
		p(fmt.Sprintf("tried %d", n+1), "%s: %s", who, try.outcome)
	}
	switch {
	case !r.done:
		p("answer", "none yet")
	case r.rpc && r.err != nil:
		s := status.Convert(r.err)
		p("error", "%s after %v: %s", s.Code(), r.took, r.files.in(s.Message()))
	case r.rpc:
		p("answer", "%s after %v", codes.OK, r.took.Round(time.Microsecond))
	case r.err != nil:
		p("error", "%s after %v", r.files.in(r.err.Error()), r.took)
	default:
		p("answer", "%d %s after %v", r.status, http.StatusText(r.status), r.took.Round(time.Microsecond))
	}
	why := r.decision.String()
	if r.undecided != nil {
		why = r.undecided.Error() + "\n"
	}
	b.WriteString("why:\n")
	b.WriteString(indent(r.files.in(why)))
	return b.String()
}

// A try is one attempt of a call.
type try struct{ address, outcome string }

// tries joins what the mesh says it tried with what the instances saw meanwhile.
func (r *record) tries(events []event) []try {
	events = slices.DeleteFunc(slices.Clone(events), func(e event) bool { return !e.refused && e.call.Method != r.method })
	var addresses []string
	if r.done {
		addresses = r.info.Tried
	}
	if addresses == nil { // the caller has its own mesh.Capture, or the call is under way
		for _, e := range events {
			addresses = append(addresses, e.instance.Address())
		}
	}
	list := make([]try, len(addresses))
	for n, a := range addresses {
		last := !slices.Contains(addresses[n+1:], a)
		var seen []string
		events = slices.DeleteFunc(events, func(e event) bool {
			// net/http repeats some requests by itself, on the same endpoint and within one attempt.
			if e.instance.Address() != a || len(seen) > 0 && !last {
				return false
			}
			seen = append(seen, e.outcome())
			return true
		})
		if len(seen) == 0 {
			seen = []string{"no request arrived"}
		}
		list[n] = try{a, strings.Join(seen, ", then ")}
		if r.done && n < len(r.info.Why) && r.info.Why[n] != resilience.Unjudged {
			list[n].outcome += "; " + r.info.Why[n].String()
		}
	}
	return list
}

// outcome says what became of a request at an instance.
func (e event) outcome() string {
	s := "no answer"
	switch {
	case e.refused:
		s = "connection refused"
	case e.coded:
		s = e.call.Code.String()
	case e.call.Status != 0:
		s = fmt.Sprint(e.call.Status)
	}
	if e.call.Fault != "" {
		s += ", by " + e.call.Fault
	}
	return s
}

// String names the workload for people.
func (e *Env) String() string {
	s := e.workload.Namespace
	if e.workload.Name != "" {
		s += "/" + e.workload.Name
	}
	if len(e.workload.Labels) > 0 {
		s += " " + labelText(e.workload.Labels)
	}
	return s
}

func requestText(method, url string, h http.Header) string {
	var headers []string
	for _, k := range slices.Sorted(maps.Keys(h)) {
		v := strings.Join(h[k], ", ")
		if k == "Authorization" || k == "Cookie" {
			v = "…"
		}
		headers = append(headers, strings.ToLower(k)+": "+v)
	}
	if len(headers) > 0 {
		return fmt.Sprintf("%s %s (%s)", method, url, strings.Join(headers, "; "))
	}
	return method + " " + url
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ") + "\n"
}
