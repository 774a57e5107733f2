package config

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
)

// actions compiles what a rule does beside choosing a destination. Destinations are compiled already.
func (c *compiler) actions(r *routing.Route, rule *rule, port uint32) {
	r.Redirect = redirect(rule.GetRedirect(), port)
	r.Direct = directResponse(rule.GetDirectResponse())
	r.Rewrite = rewrite(rule.GetRewrite())
	r.CORS = cors(rule.GetCorsPolicy())
	r.Fault = fault(rule.GetFault())
	r.Timeout = rule.GetTimeout().AsDuration()
	r.Mirrors = c.mirrors(rule, port)

	own := rule.GetHeaders()
	r.Answer = headerOps(own.GetResponse())
	for i, d := range rule.GetRoute() {
		dest := &r.Split[i]
		theirs := d.GetHeaders()
		// istiod joins a lone destination's operations to the rule's; Envoy carries out those of one among several
		// first, and then the rule's (pilot route.go, processDestination; Envoy, WeightedClusterEntry).
		if len(rule.GetRoute()) > 1 {
			dest.Request = followed(headerOps(theirs.GetRequest()), headerOps(own.GetRequest()))
			dest.Response = followed(headerOps(theirs.GetResponse()), headerOps(own.GetResponse()))
		} else {
			dest.Request = headerOps(own.GetRequest(), theirs.GetRequest())
			dest.Response = headerOps(own.GetResponse(), theirs.GetResponse())
		}
		// Of the two the rule's host counts, in either case.
		if dest.Authority = authorityOf(own); dest.Authority == "" {
			dest.Authority = authorityOf(theirs)
		}
	}
}

// authorityOf reads the operation on host, which is a rewrite of the authority.
func authorityOf(h *networking.Headers) string {
	for _, ops := range []map[string]string{h.GetRequest().GetSet(), h.GetRequest().GetAdd()} {
		for name, value := range ops {
			if isAuthority(name) {
				return value
			}
		}
	}
	return ""
}

// followed puts operations one behind the other.
func followed(first, then *routing.HeaderOps) *routing.HeaderOps {
	if first == nil {
		return then
	}
	first.Then = then
	return first
}

// headerOps joins operations to one step, in which all removals come first and all additions last; nil where there
// are none.
func headerOps(all ...*networking.Headers_HeaderOperations) *routing.HeaderOps {
	out := new(routing.HeaderOps)
	for _, ops := range all {
		for _, name := range ops.GetRemove() {
			out.Remove = append(out.Remove, call.NewName(name))
		}
		for _, kind := range []struct {
			headers map[string]string
			add     bool
		}{{ops.GetSet(), false}, {ops.GetAdd(), true}} {
			for _, name := range sortedKeys(kind.headers) {
				value, err := call.ParseTemplate(kind.headers[name])
				if err != nil || isAuthority(name) { // validate has refused what does not parse
					continue
				}
				out.Edits = append(out.Edits, routing.HeaderEdit{Name: call.NewName(name), Value: value, Add: kind.add})
			}
		}
	}
	if out.Empty() {
		return nil
	}
	return out
}

// redirect: derivePort FROM_REQUEST_PORT is the listener's, which is known; FROM_PROTOCOL_DEFAULT is what
// Envoy does by itself.
func redirect(r *networking.HTTPRedirect, port uint32) *routing.Redirect {
	if r == nil {
		return nil
	}
	out := &routing.Redirect{Code: int(r.GetRedirectCode()), Path: escape(r.GetUri(), "#"), Prefix: escapePath(r.GetPrefixRewrite()),
		Authority: r.GetAuthority(), Scheme: r.GetScheme()}
	if out.Code == 0 {
		out.Code = 301
	}
	switch t := r.GetRedirectPort().(type) {
	case *networking.HTTPRedirect_Port:
		out.Port = uint16(t.Port)
	case *networking.HTTPRedirect_DerivePort:
		if t.DerivePort == networking.HTTPRedirect_FROM_REQUEST_PORT {
			out.Port = uint16(port)
		}
	}
	return out
}

func directResponse(r *networking.HTTPDirectResponse) *routing.DirectResponse {
	if r == nil {
		return nil
	}
	out := &routing.DirectResponse{Status: int(r.GetStatus()), Body: r.GetBody().GetBytes()}
	if s := r.GetBody().GetString_(); s != "" {
		out.Body = []byte(s)
	}
	return out
}

func rewrite(r *networking.HTTPRewrite) *routing.Rewrite {
	if r == nil {
		return nil
	}
	out := &routing.Rewrite{Path: escapePath(r.GetUri()), Authority: r.GetAuthority()}
	if x := r.GetUriRegexRewrite(); x != nil {
		re, err := regexp.Compile(x.GetMatch())
		if err != nil {
			return out // validate has refused it
		}
		out.Regex, out.Substitution = re, routing.ParseSubstitution(escapePath(x.GetRewrite()))
	}
	return out
}

// escapePath percent-encodes what cannot stand on a request line. What is encoded already stays.
func escapePath(s string) string { return escape(s, "") }

// escape is escapePath but for the bytes to keep.
func escape(s, keep string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`#"<>`, c) >= 0 && strings.IndexByte(keep, c) < 0 || c == '%' && !escaped(s[i:]) {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func escaped(s string) bool { return len(s) >= 3 && isHex(s[1]) && isHex(s[2]) }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func cors(p *networking.CorsPolicy) *routing.CORS {
	if p == nil {
		return nil
	}
	out := &routing.CORS{
		AllowMethods:    strings.Join(p.GetAllowMethods(), ","),
		AllowHeaders:    strings.Join(p.GetAllowHeaders(), ","),
		ExposeHeaders:   strings.Join(p.GetExposeHeaders(), ","),
		Credentials:     p.GetAllowCredentials().GetValue(),
		AnswerUnmatched: p.GetUnmatchedPreflights() == networking.CorsPolicy_IGNORE,
	}
	if age := p.GetMaxAge(); age != nil {
		out.MaxAge = strconv.FormatInt(int64(age.AsDuration()/time.Second), 10)
	}
	for _, m := range p.GetAllowOrigins() {
		origin := stringMatch(m)
		if origin.Match("*") { // any origin, whichever way it is said (Envoy, CorsFilter::isOriginAllowed)
			origin = call.Present()
		}
		out.Origins = append(out.Origins, origin)
	}
	//nolint:staticcheck // SA1019: a deprecated field that documents still have
	if old := p.GetAllowOrigin(); len(out.Origins) == 0 {
		for _, o := range old {
			if o == "*" {
				out.Origins = append(out.Origins, call.Present())
			} else {
				out.Origins = append(out.Origins, call.Exact(o))
			}
		}
	}
	return out
}

func fault(f *networking.HTTPFaultInjection) *resilience.Fault {
	if f.GetDelay() == nil && f.GetAbort() == nil {
		return nil
	}
	out := new(resilience.Fault)
	if d := f.GetDelay(); d != nil {
		out.Delay = d.GetFixedDelay().AsDuration()
		//nolint:staticcheck // SA1019: a deprecated field that documents still have
		out.DelayShare = share(d.GetPercentage(), float64(d.GetPercent()))
	}
	if a := f.GetAbort(); a != nil {
		out.AbortShare = share(a.GetPercentage(), 0)
		switch t := a.GetErrorType().(type) {
		case *networking.HTTPFaultInjection_Abort_HttpStatus:
			out.AbortStatus = int(t.HttpStatus)
		case *networking.HTTPFaultInjection_Abort_GrpcStatus:
			for code, name := range grpcStatuses {
				if name == t.GrpcStatus {
					out.AbortGRPC = uint8(code) + 1
				}
			}
		}
	}
	return out
}

// share gives a percentage per million; otherwise is for a missing one.
func share(p *networking.Percent, otherwise float64) uint32 {
	if p != nil {
		otherwise = p.GetValue()
	}
	return uint32(math.Round(min(max(otherwise, 0), 100) * (resilience.PerMillion / 100)))
}

// mirrors compiles mirror or mirrors, of which a rule has one. Without a percentage everything is mirrored.
func (c *compiler) mirrors(rule *rule, port uint32) []routing.Mirror {
	var out []routing.Mirror
	add := func(d *networking.Destination, share uint32) {
		to := c.destination(rule.doc, d, port)
		if share > 0 {
			out = append(out, routing.Mirror{Cluster: to.Cluster, Index: to.Index, Missing: to.Missing, Share: share})
		}
	}
	if m := rule.GetMirror(); m != nil {
		otherwise := 100.
		//nolint:staticcheck // SA1019: a deprecated field that documents still have
		if old := rule.GetMirrorPercent(); old != nil {
			otherwise = float64(old.GetValue())
		}
		add(m, share(rule.GetMirrorPercentage(), otherwise))
	}
	for _, m := range rule.GetMirrors() {
		add(m.GetDestination(), share(m.GetPercentage(), 100))
	}
	return out
}
