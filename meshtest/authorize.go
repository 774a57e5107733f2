package meshtest

import (
	engine "github.com/heddlemesh/mesh/transport"
)

// A Caller is who would send a request; see [Env.Authorize].
type Caller = engine.Inquiry

// An Authorization is what policies would do with a request, and why. Its String is for people.
type Authorization = engine.Authorization

// Authorize says what the AuthorizationPolicies and RequestAuthentications for the test's workload (see [Env.As]) would do with a
// request that comes in to it. Nothing is sent and no instance is needed. Headers are written "name: value". A request or a
// caller that is none ends the test.
func (e *Env) Authorize(c Caller, method, url string, headers ...string) Authorization {
	e.t.Helper()
	req, err := newRequest(e.t.Context(), method, url, headers)
	if err != nil {
		e.t.Fatalf("meshtest: %v", err)
	}
	a, err := e.mesh.Engine().Authorize(req, c)
	if err != nil {
		e.t.Fatalf("meshtest: %v", err)
	}
	return a
}

// WantAllowed fails the test where the policies would not let the request in, and WantDenied where they would; the failure says
// by which rule.
func (e *Env) WantAllowed(c Caller, method, url string, headers ...string) {
	e.t.Helper()
	if a := e.Authorize(c, method, url, headers...); !a.Allowed {
		e.t.Errorf("the policies do not let it in\n%s", indent(a.String()))
	}
}

// WantDenied is the contrary of WantAllowed.
func (e *Env) WantDenied(c Caller, method, url string, headers ...string) {
	e.t.Helper()
	if a := e.Authorize(c, method, url, headers...); a.Allowed {
		e.t.Errorf("the policies let it in\n%s", indent(a.String()))
	}
}
