package config

import (
	"fmt"
	"net/http"
	"slices"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/resilience"
)

func (l *linter) virtualService(p fieldPath, s *networking.VirtualService) {
	for i, r := range s.GetHttp() {
		at := p.at("http", i)
		l.weight(at.at("route"), r.GetRoute())
		if t := r.GetTimeout(); t != nil && t.AsDuration() == 0 {
			l.inform(at.at("timeout"), codeNoTimeout, "0s is no timeout at all, which is the default", "write how long a call may take, or remove it")
		}
		l.retries(at, r)
		l.fault(at.at("fault"), r.GetFault())
		l.mirror(at, r)
	}
	l.shadowed(p.at("http"), s.GetHttp())
}

// weight: a lone destination gets all, as if it had none.
func (l *linter) weight(p fieldPath, list []*networking.HTTPRouteDestination) {
	if len(list) != 1 || !l.written(p.at(0, "weight")) {
		return
	}
	// 1 and 100 are how people write all.
	if n := list[0].GetWeight(); n != 1 && n != 100 {
		l.warn(p.at(0, "weight"), codeLoneWeight, fmt.Sprintf("weight %d has no effect: a lone destination gets every request", n),
			"remove it, or name the destination of the other requests")
	}
}

func (l *linter) fault(p fieldPath, f *networking.HTTPFaultInjection) {
	never := func(p fieldPath, percentage *networking.Percent) {
		switch {
		case percentage == nil && l.written(p.at("percent")): // the old way to write it
		case percentage == nil:
			l.warn(p, codeNoFault, "never injected: without percentage it is for 0 % of the requests", "write percentage: {value: 100}, or another share")
		case !l.written(p.at("percentage", "value")):
			l.warn(p.at("percentage"), codeNoFault, "never injected: the percentage has no value, which is 0 %", "write value: 100, or another share")
		}
	}
	if d := f.GetDelay(); d != nil {
		never(p.at("delay"), d.GetPercentage())
	}
	if a := f.GetAbort(); a != nil {
		never(p.at("abort"), a.GetPercentage())
	}
}

// writing are the methods that may change something twice (RFC 9110 §9.2.2), as far as they are common.
var writing = []string{http.MethodPost, http.MethodPatch}

// writes says which of those methods the rule takes, and whether it takes no others.
func writes(r *networking.HTTPRoute) (methods []string, only bool) {
	only = len(r.GetMatch()) > 0
	for _, m := range r.GetMatch() {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete} {
			only = only && m.GetMethod() != nil && !takes(m.GetMethod(), method)
		}
	}
	for _, method := range writing {
		if len(r.GetMatch()) == 0 || slices.ContainsFunc(r.GetMatch(), func(m *networking.HTTPMatchRequest) bool {
			return m.GetMethod() == nil || takes(m.GetMethod(), method)
		}) {
			methods = append(methods, method)
		}
	}
	return methods, only && len(methods) > 0
}

func takes(m *networking.StringMatch, method string) bool {
	s := stringMatch(m)
	return s.Match(method)
}

func (l *linter) mirror(p fieldPath, r *networking.HTTPRoute) {
	path := p.at("mirror")
	switch {
	case r.GetMirror() != nil:
		if share(r.GetMirrorPercentage(), 100) == 0 {
			return
		}
	case slices.ContainsFunc(r.GetMirrors(), func(m *networking.HTTPMirrorPolicy) bool { return share(m.GetPercentage(), 100) > 0 }):
		path = p.at("mirrors")
	default:
		return
	}
	methods, only := writes(r)
	message := "requests that change something (" + listed(methods) + ") are carried out twice where the mirror's service shares its data"
	const hint = "mirror GET and HEAD alone, by a match on method, or make sure that the copy of the service has data of its own"
	switch {
	case only:
		l.warn(path, codeMirrorsWrites, message, hint)
	case len(methods) > 0:
		l.inform(path, codeMirrorsWrites, message, hint)
	}
}

const (
	// onTryTimeout are the conditions that a try which takes too long meets (resilience, Retry.Judge).
	onTryTimeout = resilience.On5xx | resilience.OnGatewayError | resilience.OnReset
	// onAnswer are those that an endpoint can meet after it has done what it was asked for.
	onAnswer = onTryTimeout | resilience.OnRetriable4xx | resilience.OnRetriableStatusCodes
	// onNothing are those that nothing meets here.
	onNothing = resilience.OnRetriableHeaders | resilience.OnHTTP3PostConnectFailure
)

func (l *linter) retries(p fieldPath, rule *networking.HTTPRoute) {
	r := rule.GetRetries()
	if r.GetAttempts() <= 0 {
		return
	}
	at := p.at("retries")
	on, written := resilience.DefaultRetry().On, "the default retryOn"
	if r.GetRetryOn() != "" {
		var codes []int
		on, codes, _ = resilience.ParseRetryOn(r.GetRetryOn()) // validate has refused what does not parse
		written = "retryOn"
		if len(codes) == 0 {
			on &^= resilience.OnRetriableStatusCodes
		}
		if on &^= onNothing; on == 0 {
			l.warn(at.at("retryOn"), codeRetriesNothing, quoted(r.GetRetryOn())+" repeats nothing: retriable-status-codes needs codes beside it, "+
				"and retriable-headers and http3-post-connect-failure never happen here", "write what is to be repeated, as in 5xx or 503")
			return
		}
		l.retriesWrites(at.at("retryOn"), rule, on)
	}
	whole, try := rule.GetTimeout().AsDuration(), r.GetPerTryTimeout().AsDuration()
	switch {
	case try <= 0 || whole > 0 && try >= whole: // validate has said so
	case on&onTryTimeout == 0:
		l.warn(at.at("perTryTimeout"), codeNeverRetried, fmt.Sprintf("a try that takes longer than %v ends the call: %s has none of 5xx, gateway-error and reset",
			try, written), "add reset to retryOn")
	case whole > 0:
		l.triesTooLong(at, r, whole.Seconds(), try.Seconds())
	}
}

// triesTooLong compares the timeout with what all tries and the pauses between them can take.
func (l *linter) triesTooLong(p fieldPath, r *networking.HTTPRetry, whole, try float64) {
	const most = 1 << 63
	backoff := resilience.Backoff{Base: r.GetBackoff().AsDuration()}
	pauses := 0.0
	retries := min(int(r.GetAttempts()), 100)
	for i := 1; i <= retries; i++ {
		pauses += backoff.Wait(i, most).Seconds() // the middle of what can be
	}
	if all := float64(r.GetAttempts()+1)*try + pauses; all > whole {
		l.inform(p, codeTriesTooLong, fmt.Sprintf("%d tries of %s and the pauses between them take %s where none is answered, longer than the timeout, %s: the last are cut off or not made",
			r.GetAttempts()+1, seconds(try), seconds(all), seconds(whole)), "attempts counts the tries after the first: lower it or perTryTimeout, or give the call more time")
	}
}

func seconds(s float64) string { return fmt.Sprintf("%.4gs", s) }

// retriesWrites: unlike Istio the mesh does not repeat what may have been done (resilience, Retry.Judge). A rule
// that names no method is for all, and says nothing of these.
func (l *linter) retriesWrites(p fieldPath, rule *networking.HTTPRoute, on resilience.Condition) {
	methods, only := writes(rule)
	named := slices.ContainsFunc(rule.GetMatch(), func(m *networking.HTTPMatchRequest) bool {
		return m.GetMethod() != nil && slices.ContainsFunc(writing, func(method string) bool { return takes(m.GetMethod(), method) })
	})
	if !named || on&onAnswer == 0 || repeatsBy[l.d.annotations[retryAnnotation]] != resilience.RepeatsNone {
		return
	}
	message := fmt.Sprintf("%s: requests of %s are not repeated for these, as Istio would: they may have been carried out", on&onAnswer, listed(methods))
	const hint = "they are repeated where nothing can have happened, as for connect-failure and refused-stream; the annotation " +
		retryAnnotation + `: "true" repeats them all`
	if only && on&^onAnswer == 0 {
		l.warn(p, codeNotIdempotent, message, hint)
		return
	}
	l.inform(p, codeNotIdempotent, message, hint)
}
