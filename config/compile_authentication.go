package config

import (
	"strings"

	security "istio.io/api/security/v1beta1"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/jwt"
)

// authentication compiles the RequestAuthentications for the workload, which add up. It gives nil where there are none.
func (c *compiler) authentication(docs []*document) *jwt.Set {
	var rules []jwt.Rule
	for _, d := range docs {
		spec, ok := d.spec.(*security.RequestAuthentication)
		if !ok || !c.isFor(d, spec.GetSelector().GetMatchLabels()) {
			continue
		}
		for _, r := range spec.GetJwtRules() {
			rules = append(rules, c.jwtRule(r))
		}
	}
	if len(rules) == 0 {
		return nil
	}
	return jwt.New(rules)
}

// sourceOf says where a rule's keys are fetched from.
func sourceOf(r *security.JWTRule) jwt.Source {
	s := jwt.Source{URI: r.GetJwksUri()}
	if s.URI == "" {
		s.Issuer = r.GetIssuer()
	}
	if t := r.GetTimeout(); t != nil {
		s.Timeout = t.AsDuration()
	}
	return s
}

func (c *compiler) jwtRule(r *security.JWTRule) jwt.Rule {
	rule := jwt.Rule{Issuer: r.GetIssuer(), Audiences: r.GetAudiences(), Forward: r.GetForwardOriginalToken(), Delimited: r.GetSpaceDelimitedClaims()}
	if text := r.GetJwks(); text != "" {
		keys, err := jwt.ParseKeySet([]byte(text))
		if err != nil { // what validation lets through has keys; without any no token is taken
			c.add(Finding{Code: codeSchema, Level: Error, Refused: true, Message: err.Error()})
		}
		rule.Keys = keys
	} else {
		rule.Source = sourceOf(r)
	}
	for _, h := range r.GetFromHeaders() {
		rule.From = append(rule.From, jwt.Location{Place: jwt.InHeader, Field: call.NewName(h.GetName()), Prefix: h.GetPrefix()})
	}
	for _, name := range r.GetFromParams() {
		rule.From = append(rule.From, jwt.Location{Place: jwt.InQuery, Name: name})
	}
	for _, name := range r.GetFromCookies() {
		rule.From = append(rule.From, jwt.Location{Place: jwt.InCookie, Name: name})
	}
	if name := r.GetOutputPayloadToHeader(); name != "" {
		rule.PayloadTo = call.NewName(name)
	}
	for _, o := range r.GetOutputClaimToHeaders() {
		rule.ClaimsTo = append(rule.ClaimsTo, jwt.ClaimTo{Name: call.NewName(o.GetHeader()), Keys: strings.Split(o.GetClaim(), ".")})
	}
	return rule
}
