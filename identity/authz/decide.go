package authz

// A Decision is what becomes of a request, and why.
type Decision struct {
	Allowed bool
	// Rule is the rule that decided, "ns[default]-policy[no-admin]-rule[0]"; "" where none did: nothing restricts the
	// request, or nothing allows it.
	Rule string
	// Audit is the rule of an AUDIT policy that matches, "" for none.
	Audit string
	// Shadow is what dry-run policies would do, and ShadowRule by which rule; without such policies it is None.
	Shadow     Shadow
	ShadowRule string
}

// Shadow is the outcome of dry-run policies.
type Shadow uint8

const (
	None Shadow = iota
	WouldAllow
	WouldDeny
)

func (s Shadow) String() string {
	switch s {
	case WouldAllow:
		return "allowed"
	case WouldDeny:
		return "denied"
	}
	return "none"
}

// Body is what a caller is told who is denied; it does not hear why (Envoy, the HTTP RBAC filter).
const Body = "RBAC: access denied"

// Details is Envoy's response code detail of a denial, for the log.
func (d *Decision) Details() string {
	rule := d.Rule
	if rule == "" {
		rule = "none"
	}
	return "rbac_access_denied_matched_policy[" + rule + "]"
}

// Custom gives the CUSTOM rule that a request matches, by whose provider it has to be let in before it is decided on; "" for
// none. It does not allocate. q must be prepared.
func (s *Set) Custom(q *Request) string {
	if s == nil {
		return ""
	}
	if r := s.custom.match(q); r != nil {
		return r.name
	}
	return ""
}

// Provider names whom the CUSTOM policies ask, "" where there are none.
func (s *Set) Provider() string {
	if s == nil {
		return ""
	}
	return s.provider
}

// Decide evaluates DENY before ALLOW, and AUDIT beside them; what CUSTOM has to say is Custom's. It does not allocate. q must
// be prepared.
func (s *Set) Decide(q *Request) Decision {
	if s == nil {
		return Decision{Allowed: true}
	}
	var d Decision
	if r := s.audit.match(q); r != nil {
		d.Audit = r.name
	}
	s.shadow(&d, q)
	if r := s.deny.match(q); r != nil {
		d.Rule = r.name
		return d
	}
	if !s.allows {
		d.Allowed = true
		return d
	}
	if r := s.allow.match(q); r != nil {
		d.Allowed, d.Rule = true, r.name
	}
	return d
}

func (s *Set) shadow(d *Decision, q *Request) {
	if len(s.shadowDeny.rules) == 0 && !s.shadowAllows {
		return
	}
	d.Shadow = WouldAllow
	if r := s.shadowDeny.match(q); r != nil {
		d.Shadow, d.ShadowRule = WouldDeny, r.name
		return
	}
	if !s.shadowAllows {
		return
	}
	if r := s.shadowed.match(q); r != nil {
		d.ShadowRule = r.name
		return
	}
	d.Shadow = WouldDeny
}
