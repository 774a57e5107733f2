package routing

import "github.com/heddlemesh/mesh/call"

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
func (v *VirtualHost) Explain(q *call.Request) (*Route, []Trial) {
	var won *Route
	var trials []Trial
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
			won = r
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
	return won, trials
}
