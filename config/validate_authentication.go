package config

import (
	"fmt"
	"strings"

	security "istio.io/api/security/v1beta1"

	"github.com/heddlemesh/mesh/identity/jwt"
)

// requestAuthentication checks whose tokens are taken.
func (v *validation) requestAuthentication(p fieldPath, a *security.RequestAuthentication) {
	v.policyTarget(p, a.GetSelector(), a.GetTargetRef() != nil || len(a.GetTargetRefs()) > 0)
	first := make(map[string]int)
	for i, r := range a.GetJwtRules() {
		at := p.at("jwtRules", i)
		v.jwtRule(at, r)
		if k, again := first[r.GetIssuer()]; again && (r.GetJwks() != a.GetJwtRules()[k].GetJwks() || r.GetJwksUri() != a.GetJwtRules()[k].GetJwksUri()) {
			v.refuseValue(at.at("issuer"), fmt.Sprintf("is the issuer of jwtRules[%d], with other keys", k), "an issuer has one set of keys")
		} else if !again {
			first[r.GetIssuer()] = i
		}
	}
}

func (v *validation) jwtRule(p fieldPath, r *security.JWTRule) {
	if r.GetIssuer() == "" && r.GetJwksUri() == "" {
		v.refuse(p.at("issuer"), "issuer is missing", "write what iss of the tokens says")
	}
	for i, a := range r.GetAudiences() {
		if a == "" {
			v.refuse(p.at("audiences", i), "an empty audience is nobody's", "write it, or remove it")
		}
	}
	switch {
	case r.GetJwks() != "" && r.GetJwksUri() != "":
		v.refuse(p.at("jwksUri"), "jwks and jwksUri exclude each other", "write one of them")
	case r.GetJwks() != "":
		if _, err := jwt.ParseKeySet([]byte(r.GetJwks())); err != nil {
			v.refuse(p.at("jwks"), err.Error(), "write a JWKS of public keys (RFC 7517)")
		}
	default:
		v.keySource(p, r)
	}
	if r.GetTimeout() != nil {
		v.duration(p.at("timeout"), r.GetTimeout())
		if r.GetJwks() != "" {
			v.inform(p.at("timeout"), codeNotServed, "timeout is for keys that are fetched: not read", "")
		}
	}
	for i, h := range r.GetFromHeaders() {
		v.tokenField(p.at("fromHeaders", i, "name"), h.GetName())
	}
	for i, name := range r.GetFromParams() {
		if name == "" {
			v.refuse(p.at("fromParams", i), "names no parameter", "")
		}
	}
	for i, name := range r.GetFromCookies() {
		if !isToken(name) {
			v.refuseValue(p.at("fromCookies", i), "is no name of a cookie", "")
		}
	}
	if name := r.GetOutputPayloadToHeader(); name != "" {
		v.outputField(p.at("outputPayloadToHeader"), name)
	}
	for i, c := range r.GetOutputClaimToHeaders() {
		at := p.at("outputClaimToHeaders", i)
		v.outputField(at.at("header"), c.GetHeader())
		if c.GetClaim() == "" {
			v.refuse(at.at("claim"), "claim is missing", "name one, with dots for those within others")
		}
	}
}

// keySource checks where keys are fetched from: jwksUri or, without one, the issuer.
func (v *validation) keySource(p fieldPath, r *security.JWTRule) {
	at, s := p.at("jwksUri"), sourceOf(r)
	if s.URI == "" {
		if at = p.at("issuer"); s.Issuer == "" {
			return // said already
		}
	}
	switch err := s.Check(); {
	case err != nil && s.URI == "":
		v.refuse(at, "issuer "+err.Error()+", and without jwks and jwksUri it is asked for its keys", "write jwks or jwksUri")
	case err != nil: // the value may have a password in it
		v.refuse(at, "jwksUri "+err.Error(), "write the https URL of a JWKS (RFC 7517)")
	case s.Plain():
		v.doubt(at, "keys come by http: whoever is on the way can put in keys of his own, and sign tokens", "write an https URL")
	}
}

// tokenField checks a header that tokens stand in.
func (v *validation) tokenField(p fieldPath, name string) {
	switch {
	case !isToken(name):
		v.refuseValue(p, "is no name of a header", "write letters, digits and '-'")
	case strings.EqualFold(name, "host"):
		v.refuseValue(p, "is no header that tokens stand in", "")
	}
}

// outputField checks a header that claims are written to: none that frames, routes or proves something.
func (v *validation) outputField(p fieldPath, name string) {
	lower := strings.ToLower(name)
	switch {
	case !isToken(name):
		v.refuseValue(p, "is no name of a header", "write letters, digits and '-'")
	case isIn(lower, "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive",
		"proxy-connection", "authorization", "cookie", "x-forwarded-client-cert") || strings.HasPrefix(lower, "x-heddle-") || strings.HasPrefix(lower, "grpc-"):
		v.refuseValue(p, "is a header that claims must not write", "write a name of your own, as x-jwt-claim-sub")
	}
}
