package config

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
)

// retryOn checks the list of conditions as what compiles it reads it.
func (v *validation) retryOn(p fieldPath, list string) {
	_, _, err := resilience.ParseRetryOn(list)
	if err == nil {
		return
	}
	message := strings.TrimPrefix(err.Error(), "retryOn: ")
	hint := "separate conditions by single commas, without spaces"
	if bad, ok := errors.AsType[*resilience.RetryOnError](err); ok && bad.Token != "" {
		message = fmt.Sprintf("%s at byte %d of %s is no retry condition and no status from 100 to 599",
			quoted(bad.Token), bad.Offset, quoted(list))
		if trimmed := strings.TrimSpace(bad.Token); trimmed != bad.Token && slices.Contains(bad.Nearest, trimmed) {
			message = fmt.Sprintf("there is a space at %s, byte %d of %s", quoted(bad.Token), bad.Offset, quoted(list))
		} else {
			hint = "did you mean one of " + listed(bad.Nearest) + "?"
		}
	}
	v.refuse(p, message, hint)
}

var redirectCodes = []uint32{
	http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
	http.StatusTemporaryRedirect, http.StatusPermanentRedirect,
}

func (v *validation) redirect(p fieldPath, rule *networking.HTTPRoute) {
	r := rule.GetRedirect()
	if r == nil {
		return
	}
	if code := r.GetRedirectCode(); code != 0 && !slices.Contains(redirectCodes, code) {
		v.refuseValue(p.at("redirectCode"), "is no redirect", "write 301, 302, 303, 307 or 308")
	}
	if port, ok := r.GetRedirectPort().(*networking.HTTPRedirect_Port); ok {
		v.port(p.at("port"), port.Port)
	}
	if s := r.GetScheme(); s != "" && s != "http" && s != "https" {
		v.refuseValue(p.at("scheme"), "is no scheme to redirect to", "write http or https")
	}
	v.authority(p.at("authority"), r.GetAuthority())
	for _, uri := range []struct{ name, text string }{{"uri", r.GetUri()}, {"prefixRewrite", r.GetPrefixRewrite()}} {
		if strings.ContainsFunc(uri.text, isControl) {
			v.refuseValue(p.at(uri.name), "has a control character", "write it percent-encoded")
		} else if uri.text != "" && uri.text[0] != '/' { // behind the host it would be part of that
			v.refuseValue(p.at(uri.name), "does not begin with \"/\"", "write "+quoted("/"+uri.text))
		}
	}
	there := r.GetAuthority() != "" || r.GetScheme() != "" || r.GetRedirectPort() != nil
	if !there && r.GetUri() == "" && r.GetPrefixRewrite() == "" {
		v.refuse(p, "the redirect changes nothing", "give it a uri, prefixRewrite, authority, scheme or port")
	}
	for i, m := range rule.GetMatch() {
		if r.GetUri() != "" && !there && m.GetUri().GetExact() == r.GetUri() {
			v.refuseValue(p.at("uri"), fmt.Sprintf("redirects to itself: match[%d] takes it again", i), "redirect elsewhere")
		}
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// authority checks what is to stand in a Host header.
func (v *validation) authority(p fieldPath, authority string) {
	if authority == "" {
		return
	}
	if _, _, err := call.SplitAuthority(authority); err != nil {
		v.refuseValue(p, "is no authority", "write a host, with a port if need be")
	}
}

func (v *validation) directResponse(p fieldPath, r *networking.HTTPDirectResponse) {
	if r == nil {
		return
	}
	switch {
	case r.GetStatus() == 0:
		v.refuse(p.at("status"), "status is missing", "write 200 to 599")
	default:
		v.whole(p.at("status"), int64(r.GetStatus()), 200, 599)
	}
	const kib = 1 << 10
	size := len(r.GetBody().GetString_()) + len(r.GetBody().GetBytes()) // one of the two
	switch {
	case size > kib*kib:
		v.refuse(p.at("body"), fmt.Sprintf("the body has %d bytes", size), "1 MiB is the most")
	case size > 100*kib:
		v.doubt(p.at("body"), fmt.Sprintf("the body has %d bytes, and stays in memory for each route", size), "serve it from a service")
	}
}

func (v *validation) delegate(p fieldPath, d *networking.Delegate) {
	if len(d.GetName()) > longestName || !subdomain.MatchString(d.GetName()) {
		v.refuseValue(p.at("name"), "is no name of a VirtualService", "name the one that this rule hands over to")
	}
	if d.GetNamespace() != "" {
		v.namespace(p.at("namespace"), d.GetNamespace())
	}
}

func (v *validation) rewrite(p fieldPath, rule *networking.HTTPRoute) {
	r := rule.GetRewrite()
	if r == nil {
		return
	}
	if uri := r.GetUri(); uri != "" {
		switch {
		case strings.ContainsFunc(uri, isControl):
			v.refuseValue(p.at("uri"), "has a control character", "write it percent-encoded")
		case uri[0] != '/':
			v.refuseValue(p.at("uri"), "does not begin with \"/\"", "write "+quoted("/"+uri))
		case slices.Contains(strings.Split(uri, "/"), ".."):
			v.refuseValue(p.at("uri"), "leads out of its directory", "write the path without \"..\"")
		}
	}
	v.authority(p.at("authority"), r.GetAuthority())
	switch re := r.GetUriRegexRewrite(); {
	case re != nil:
		v.regexRewrite(p.at("uriRegexRewrite"), re)
		if r.GetUri() != "" {
			v.refuse(p.at("uriRegexRewrite"), "uri and uriRegexRewrite exclude each other", "keep one of them")
		}
	case r.GetUri() == "" && r.GetAuthority() == "":
		v.refuse(p, "the rewrite changes nothing", "give it a uri, an authority or uriRegexRewrite")
	}
}

var backReference = regexp.MustCompile(`\\\\|\\[0-9]`)

// regexRewrite checks that the groups which the rewrite inserts are those of the match.
func (v *validation) regexRewrite(p fieldPath, r *networking.RegexRewrite) {
	if strings.ContainsFunc(r.GetRewrite(), isControl) {
		v.refuseValue(p.at("rewrite"), "has a control character", "write it percent-encoded")
	}
	if !v.regex(p.at("match"), r.GetMatch()) {
		return
	}
	re, err := regexp.Compile(r.GetMatch())
	if err != nil {
		return
	}
	for _, ref := range backReference.FindAllString(r.GetRewrite(), -1) {
		if group, err := strconv.Atoi(ref[1:]); err == nil && group > re.NumSubexp() {
			v.refuseValue(p.at("rewrite"), fmt.Sprintf("inserts group %s, and match has %d", ref, re.NumSubexp()),
				"put a group in parentheses for each reference")
			return
		}
	}
}

// grpcStatuses are the names that HTTPFaultInjection.Abort.grpcStatus knows.
var grpcStatuses = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func (v *validation) fault(p fieldPath, f *networking.HTTPFaultInjection) {
	if d := f.GetDelay(); d != nil {
		at := p.at("delay")
		switch t := d.GetHttpDelayType().(type) {
		case *networking.HTTPFaultInjection_Delay_FixedDelay:
			v.duration(at.at("fixedDelay"), t.FixedDelay)
		case *networking.HTTPFaultInjection_Delay_ExponentialDelay:
			v.refuse(at.at("exponentialDelay"), "exponentialDelay is not supported, by Istio neither", "write fixedDelay")
		default:
			v.refuse(at, "the delay has no length", "write fixedDelay")
		}
		v.percent(at.at("percentage"), d.GetPercentage())
		//nolint:staticcheck // SA1019: a deprecated field that documents still have
		v.whole(at.at("percent"), int64(d.GetPercent()), 0, 100)
	}
	if a := f.GetAbort(); a != nil {
		at := p.at("abort")
		switch t := a.GetErrorType().(type) {
		case *networking.HTTPFaultInjection_Abort_HttpStatus:
			v.whole(at.at("httpStatus"), int64(t.HttpStatus), 200, 599)
		case *networking.HTTPFaultInjection_Abort_GrpcStatus:
			if !slices.Contains(grpcStatuses, t.GrpcStatus) {
				v.refuseValue(at.at("grpcStatus"), "is no gRPC status", oneOf(t.GrpcStatus, grpcStatuses))
			}
		case *networking.HTTPFaultInjection_Abort_Http2Error:
			v.refuse(at.at("http2Error"), "http2Error is not supported, by Istio neither", "write httpStatus or grpcStatus")
		default:
			v.refuse(at, "the abort has no error", "write httpStatus or grpcStatus")
		}
		v.percent(at.at("percentage"), a.GetPercentage())
	}
}

// mirror checks the two ways to write mirrors, of which a rule has one.
func (v *validation) mirror(p fieldPath, r *networking.HTTPRoute) {
	v.percent(p.at("mirrorPercentage"), r.GetMirrorPercentage())
	//nolint:staticcheck // SA1019: a deprecated field that documents still have
	percent := r.GetMirrorPercent()
	v.whole(p.at("mirrorPercent"), int64(percent.GetValue()), 0, 100)
	switch {
	case r.GetMirror() != nil:
		v.destination(p.at("mirror"), r.GetMirror())
		if len(r.GetMirrors()) > 0 {
			v.refuse(p.at("mirrors"), "mirror and mirrors exclude each other", "keep mirrors")
		}
	case percent != nil:
		v.doubt(p.at("mirrorPercent"), "mirrorPercent has no effect without mirror", "")
	case r.GetMirrorPercentage() != nil:
		v.doubt(p.at("mirrorPercentage"), "mirrorPercentage has no effect without mirror", "in mirrors each entry has its percentage")
	}
	for i, m := range r.GetMirrors() {
		at := p.at("mirrors", i)
		if m.GetDestination() == nil {
			v.refuse(at.at("destination"), "destination is missing", "name its host")
		} else {
			v.destination(at.at("destination"), m.GetDestination())
		}
		v.percent(at.at("percentage"), m.GetPercentage())
	}
}

func (v *validation) cors(p fieldPath, c *networking.CorsPolicy) {
	if c == nil {
		return
	}
	for i, m := range c.GetAllowOrigins() {
		v.stringMatch(p.at("allowOrigins", i), m)
	}
	v.duration(p.at("maxAge"), c.GetMaxAge())
}
