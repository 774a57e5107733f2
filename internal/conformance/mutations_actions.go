package conformance

import (
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
)

// Why gRPC cannot notice some faults of actions.
const (
	noPreflight = "no RPC is a preflight"
)

// edited changes a copy of what a rule does, where it does that.
func edited[T any](what **T, edit func(*T)) {
	if *what != nil {
		c := **what
		edit(&c)
		*what = &c
	}
}

// action makes a mutation of each rule of the groups' rows.
func action(name string, groups []string, edit func(*routing.Route), except ...string) Mutation {
	m := Mutation{Name: name, Groups: groups, edit: func(d *draft) { d.eachRoute(edit) }}
	if len(except) > 0 {
		m.Except = map[string]string{grpcDriver: except[0]}
	}
	return m
}

// grpcDriver is the name of the driver that only tests have.
const grpcDriver = "grpc"

func redirects(name string, edit func(*routing.Redirect)) Mutation {
	return action(name, []string{"redirect"}, func(r *routing.Route) { edited(&r.Redirect, edit) })
}

func rewrites(name string, edit func(*routing.Rewrite)) Mutation {
	return action(name, []string{"rewrite"}, func(r *routing.Route) { edited(&r.Rewrite, edit) })
}

func policies(name string, edit func(*routing.CORS), except ...string) Mutation {
	return action(name, []string{"cors"}, func(r *routing.Route) { edited(&r.CORS, edit) }, except...)
}

func faults(name string, edit func(*resilience.Fault)) Mutation {
	return action(name, []string{"fault"}, func(r *routing.Route) { edited(&r.Fault, edit) })
}

func mirrored(name string, edit func(*routing.Mirror)) Mutation {
	return action(name, []string{"mirror"}, func(r *routing.Route) {
		r.Mirrors = append([]routing.Mirror(nil), r.Mirrors...)
		for i := range r.Mirrors {
			edit(&r.Mirrors[i])
		}
	})
}

// operations makes a mutation of every header operation: how says whose, "request", "response" or "answer".
func operations(name string, groups []string, edit func(*routing.HeaderOps), how ...string) Mutation {
	var each func(**routing.HeaderOps)
	each = func(o **routing.HeaderOps) {
		edited(o, func(c *routing.HeaderOps) {
			each(&c.Then)
			c.Edits = append([]routing.HeaderEdit(nil), c.Edits...)
			edit(c)
		})
	}
	m := Mutation{Name: name, Groups: groups}
	m.edit = func(d *draft) {
		d.eachRoute(func(r *routing.Route) {
			for _, whose := range how {
				if whose == "answer" {
					each(&r.Answer)
				}
				for i := range r.Split {
					switch whose {
					case "request":
						each(&r.Split[i].Request)
					case "response":
						each(&r.Split[i].Response)
					}
				}
			}
		})
	}
	return m
}

// actionMutations are faults in what rules do beside choosing a destination.
func actionMutations() []Mutation {
	both := []string{"redirect", "direct"}
	all := func(names ...string) []string { return names }
	literally := func(text string) call.Template {
		t, err := call.ParseTemplate(strings.ReplaceAll(text, "%", "%%"))
		if err != nil {
			return call.Template{}
		}
		return t
	}
	return []Mutation{
		action("the rule does not answer", both, func(r *routing.Route) { r.Redirect, r.Direct = nil, nil }),
		redirects("every redirect is a 302", func(r *routing.Redirect) { r.Code = 302 }),
		redirects("the redirect's path forgotten", func(r *routing.Redirect) { r.Path = "" }),
		redirects("the redirect's prefix forgotten", func(r *routing.Redirect) { r.Prefix = "" }),
		redirects("the redirect's prefix is the path", func(r *routing.Redirect) {
			if r.Prefix != "" {
				r.Path = r.Prefix
			}
		}),
		redirects("the redirect's authority forgotten", func(r *routing.Redirect) { r.Authority = "" }),
		redirects("the redirect's scheme forgotten", func(r *routing.Redirect) { r.Scheme = "" }),
		redirects("the redirect's port forgotten", func(r *routing.Redirect) { r.Port = 0 }),
		redirects("the redirect's port is the listener's", func(r *routing.Redirect) { r.Port = 9080 }),
		action("the direct response's status is 200", all("direct"), func(r *routing.Route) { edited(&r.Direct, func(d *routing.DirectResponse) { d.Status = 200 }) }),
		action("the direct response's body forgotten", all("direct"), func(r *routing.Route) { edited(&r.Direct, func(d *routing.DirectResponse) { d.Body = nil }) }),
		operations("the answer's header is not edited", both, func(o *routing.HeaderOps) { *o = routing.HeaderOps{} }, "answer"),

		action("rewrite not read", all("rewrite"), func(r *routing.Route) { r.Rewrite = nil }),
		rewrites("the path is not rewritten", func(w *routing.Rewrite) { w.Path, w.Regex = "", nil }),
		rewrites("the authority is not rewritten", func(w *routing.Rewrite) { w.Authority = "" }),
		rewrites("the expression is not read", func(w *routing.Rewrite) { w.Regex = nil }),
		rewrites("references are text", func(w *routing.Rewrite) {
			if w.Regex != nil {
				w.Substitution = routing.ParseSubstitution("/x")
			}
		}),
		action("the whole path is rewritten", all("rewrite"), func(r *routing.Route) {
			if r.Rewrite != nil {
				for i := range r.Matches {
					r.Matches[i].PathKind, r.Matches[i].Path = routing.PathRegex, call.Present()
				}
			}
		}),
		action("the first slash is rewritten", all("rewrite"), func(r *routing.Route) {
			for i := range r.Matches {
				r.Matches[i].PathKind = routing.PathAny
			}
		}),

		operations("request headers are not edited", all("headerops", "mirror"), func(o *routing.HeaderOps) { *o = routing.HeaderOps{} }, "request"),
		operations("response headers are not edited", all("headerops"), func(o *routing.HeaderOps) { *o = routing.HeaderOps{} }, "response"),
		operations("removals forgotten", all("headerops"), func(o *routing.HeaderOps) { o.Remove = nil }, "request"),
		operations("removals of answers forgotten", all("headerops"), func(o *routing.HeaderOps) { o.Remove = nil }, "response"),
		operations("add sets", all("headerops"), func(o *routing.HeaderOps) {
			for i := range o.Edits {
				o.Edits[i].Add = false
			}
		}, "request", "response"),
		operations("set adds", all("headerops"), func(o *routing.HeaderOps) {
			for i := range o.Edits {
				o.Edits[i].Add = true
			}
		}, "request", "response"),
		operations("the second step forgotten", all("headerops"), func(o *routing.HeaderOps) { o.Then = nil }, "request", "response"),
		operations("commands are text", all("headerops"), func(o *routing.HeaderOps) {
			for i := range o.Edits {
				if _, ok := o.Edits[i].Value.Literal(); !ok {
					o.Edits[i].Value = literally("%REQ(x-a)%")
				}
			}
		}, "request", "response"),
		operations("commands are empty", all("headerops", "fault"), func(o *routing.HeaderOps) {
			for i := range o.Edits {
				if _, ok := o.Edits[i].Value.Literal(); !ok {
					o.Edits[i].Value = call.Template{}
				}
			}
		}, "request", "response"),
		{Name: "host is no authority", Groups: all("headerops"), edit: func(d *draft) {
			d.eachDestination(func(to *routing.Destination) { to.Authority = "" })
		}},
		{Name: "destinations have one another's operations", Groups: all("headerops"), edit: func(d *draft) {
			d.eachRoute(func(r *routing.Route) {
				if last := len(r.Split) - 1; last > 0 {
					r.Split[0].Request, r.Split[last].Request = r.Split[last].Request, r.Split[0].Request
				}
			})
		}},

		policies("corsPolicy not read", func(c *routing.CORS) { *c = routing.CORS{} }),
		policies("every origin is allowed", func(c *routing.CORS) { c.Origins = []call.StringMatch{call.Present()} }),
		policies("the first origin only", func(c *routing.CORS) { c.Origins = c.Origins[:min(1, len(c.Origins))] }),
		policies("origins are prefixes", func(c *routing.CORS) {
			c.Origins = append([]call.StringMatch(nil), c.Origins...)
			for i := range c.Origins {
				if c.Origins[i].Kind() == call.MatchExact {
					c.Origins[i] = call.Prefix(c.Origins[i].Text())
				}
			}
		}),
		policies("origins ignore case", func(c *routing.CORS) {
			c.Origins = append([]call.StringMatch(nil), c.Origins...)
			for i := range c.Origins {
				c.Origins[i] = c.Origins[i].IgnoringCase()
			}
		}),
		policies("allowMethods forgotten", func(c *routing.CORS) { c.AllowMethods = "" }, noPreflight),
		policies("allowHeaders forgotten", func(c *routing.CORS) { c.AllowHeaders = "" }, noPreflight),
		policies("exposeHeaders forgotten", func(c *routing.CORS) { c.ExposeHeaders = "" }),
		policies("maxAge forgotten", func(c *routing.CORS) { c.MaxAge = "" }, noPreflight),
		policies("allowCredentials forgotten", func(c *routing.CORS) { c.Credentials = false }),
		policies("allowCredentials always", func(c *routing.CORS) { c.Credentials = true }),
		policies("unmatched preflights always answered", func(c *routing.CORS) { c.AnswerUnmatched = true }, noPreflight),
		policies("unmatched preflights never answered", func(c *routing.CORS) { c.AnswerUnmatched = false }, noPreflight),

		action("fault not read", all("fault", "cors", "mirror"), func(r *routing.Route) { r.Fault = nil }),
		faults("no delay", func(f *resilience.Fault) { f.DelayShare = 0 }),
		faults("half the delay", func(f *resilience.Fault) { f.Delay /= 2 }),
		faults("no abort", func(f *resilience.Fault) { f.AbortShare = 0 }),
		faults("every call is aborted", func(f *resilience.Fault) { f.AbortShare = resilience.PerMillion }),
		faults("every call is delayed", func(f *resilience.Fault) { f.DelayShare = resilience.PerMillion }),
		faults("twice the aborts", func(f *resilience.Fault) { f.AbortShare *= 2 }),
		faults("a missing percentage is 100 %", func(f *resilience.Fault) {
			if f.AbortShare == 0 {
				f.AbortShare = resilience.PerMillion
			}
		}),
		faults("every abort is a 503", func(f *resilience.Fault) { f.AbortStatus, f.AbortGRPC = 503, 0 }),
		faults("every abort is UNAVAILABLE", func(f *resilience.Fault) { f.AbortGRPC = 14 + 1 }),

		action("timeout not read", all("timeout", "fault", "preset"), func(r *routing.Route) { r.Timeout = 0 }),
		action("timeouts are half", all("timeout"), func(r *routing.Route) { r.Timeout /= 2 }),
		action("every call has a timeout", all("timeout"), func(r *routing.Route) {
			if r.Timeout == 0 {
				r.Timeout = 1e9
			}
		}),
		action("rules have one another's timeouts", all("timeout"), func(r *routing.Route) {
			if r.Timeout == 0 {
				r.Timeout = 1e9
			} else {
				r.Timeout = 0
			}
		}),

		action("mirror not read", all("mirror"), func(r *routing.Route) { r.Mirrors = nil }),
		action("the first mirror only", all("mirror"), func(r *routing.Route) { r.Mirrors = r.Mirrors[:min(1, len(r.Mirrors))] }),
		action("everything mirrored twice", all("mirror"), func(r *routing.Route) { r.Mirrors = append(r.Mirrors[:len(r.Mirrors):len(r.Mirrors)], r.Mirrors...) }),
		mirrored("every call is mirrored", func(m *routing.Mirror) { m.Share = resilience.PerMillion }),
		mirrored("half the copies", func(m *routing.Mirror) { m.Share /= 2 }),
		mirrored("copies go to the service itself", func(m *routing.Mirror) { m.Index = 0 }),
	}
}
