package config

import (
	"fmt"
	"strconv"
	"strings"

	security "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"

	"github.com/heddlemesh/mesh/identity/authz"
)

// dryRunAnnotation makes an AuthorizationPolicy tell what it would do, and do nothing.
const dryRunAnnotation = "istio.io/dry-run"

// authorizationPolicy checks what is let in. What could make a policy restrict less than its author means is refused.
func (v *validation) authorizationPolicy(p fieldPath, a *security.AuthorizationPolicy) {
	v.policyTarget(p, a.GetSelector(), a.GetTargetRef() != nil || len(a.GetTargetRefs()) > 0)
	v.dryRun(a.GetAction())
	switch a.GetAction() {
	case security.AuthorizationPolicy_DENY, security.AuthorizationPolicy_AUDIT, security.AuthorizationPolicy_CUSTOM:
		if len(a.GetRules()) == 0 {
			v.refuse(p, a.GetAction().String()+" without rules never matches", `write rules: [{}] to match every request`)
		}
	default:
		if len(a.GetRules()) == 0 {
			v.inform(p, codeDoubtful, "ALLOW without rules allows nothing: every request to these workloads is denied", "")
		}
	}
	switch custom := a.GetAction() == security.AuthorizationPolicy_CUSTOM; {
	case custom && a.GetProvider().GetName() == "":
		v.refuse(p, "the provider is missing: nobody could be asked", "write provider: {name: ...}, of one of MeshConfig's extensionProviders")
	case !custom && a.GetProvider() != nil:
		v.refuse(p.at("provider"), "provider is for action CUSTOM", "remove it")
	}
	for i, r := range a.GetRules() {
		v.authorizationRule(p.at("rules", i), r)
		if a.GetAction() == security.AuthorizationPolicy_CUSTOM {
			v.customRule(p.at("rules", i), r)
		}
	}
}

// customRule refuses what is not known yet when the rule is looked at: the rule would never be what its author means.
func (v *validation) customRule(p fieldPath, r *security.Rule) {
	const problem, hint = "is not known yet where CUSTOM policies are looked at", "let a policy of ALLOW or DENY say it, or whom the policy asks"
	for i, f := range r.GetFrom() {
		for k, t := range sourceTerms(f.GetSource(), v.d.key.Namespace) {
			if name := sourceFields[k]; ofLater(t.Attribute) {
				if len(t.Values) > 0 {
					v.refuse(p.at("from", i, "source", name), name+" "+problem, hint)
				}
				if len(t.Not) > 0 {
					v.refuse(p.at("from", i, "source", "not"+upperFirst(name)), "not"+upperFirst(name)+" "+problem, hint)
				}
			}
		}
	}
	for i, w := range r.GetWhen() {
		if t, ok := conditionTerm(w, v.d.key.Namespace); ok && ofLater(t.Attribute) {
			v.refuseValue(p.at("when", i, "key"), problem, hint)
		}
	}
}

// policyTarget checks which workloads a policy is for.
func (v *validation) policyTarget(p fieldPath, s *typeapi.WorkloadSelector, refs bool) {
	if refs {
		at := p.at("targetRefs")
		if _, _, written := v.d.find(at); !written {
			at = p.at("targetRef")
		}
		v.unbuilt(at, "it is for what the reference names, and would be for nothing, or for everything")
	}
	if s == nil {
		return
	}
	at := p.at("selector")
	if len(s.GetMatchLabels()) == 0 {
		v.doubt(at, "the selector has no labels: the policy is for all workloads", "name the labels of the workloads, or remove it")
	}
	for _, key := range sortedKeys(s.GetMatchLabels()) {
		if s.GetMatchLabels()[key] == "" {
			v.refuseValue(at.at("matchLabels", key), "is no value of a label that is selected by", "write the value")
		}
	}
	v.labels(at.at("matchLabels"), s.GetMatchLabels())
}

func (v *validation) dryRun(action security.AuthorizationPolicy_Action) {
	value, written := v.d.annotations[dryRunAnnotation]
	if !written {
		return
	}
	p := fieldPath{"metadata", "annotations", dryRunAnnotation}
	on, err := strconv.ParseBool(value)
	switch {
	case err != nil:
		v.refuseValue(p, "is neither true nor false", `write "true" or "false"`)
	case on && action != security.AuthorizationPolicy_ALLOW && action != security.AuthorizationPolicy_DENY:
		v.refuse(p, "a dry run is for ALLOW and DENY", "remove the annotation")
	}
}

func (v *validation) authorizationRule(p fieldPath, r *security.Rule) {
	for i, f := range r.GetFrom() {
		at, s := p.at("from", i, "source"), f.GetSource()
		if len(setFields(s)) == 0 {
			v.refuse(p.at("from", i), "names no source", "write a field of source, or remove the element")
			continue
		}
		v.source(at, s)
	}
	for i, t := range r.GetTo() {
		at, o := p.at("to", i, "operation"), t.GetOperation()
		if len(setFields(o)) == 0 {
			v.refuse(p.at("to", i), "names no operation", "write a field of operation, or remove the element")
			continue
		}
		v.operation(at, o)
	}
	for i, w := range r.GetWhen() {
		v.condition(p.at("when", i), w)
	}
}

func (v *validation) source(p fieldPath, s *security.Source) {
	for i, t := range sourceTerms(s, v.d.key.Namespace) {
		name := sourceFields[i]
		v.policyValues(p.at(name), t.Attribute, t.Values)
		v.policyValues(p.at("not"+upperFirst(name)), t.Attribute, t.Not)
	}
	for _, f := range []struct {
		name string
		list []string
	}{{"serviceAccounts", s.GetServiceAccounts()}, {"notServiceAccounts", s.GetNotServiceAccounts()}} {
		v.serviceAccounts(p.at(f.name), f.list)
	}
	accounts := len(s.GetServiceAccounts()) + len(s.GetNotServiceAccounts())
	if accounts > 0 && len(s.GetPrincipals())+len(s.GetNotPrincipals())+len(s.GetNamespaces())+len(s.GetNotNamespaces()) > 0 {
		v.refuse(p, "serviceAccounts cannot stand beside principals or namespaces", "write one of them")
	}
}

func (v *validation) serviceAccounts(p fieldPath, list []string) {
	const most, longest = 16, 320
	if len(list) > most {
		v.refuse(p, fmt.Sprintf("has %d service accounts, at most %d are allowed", len(list), most), "write more than one source")
	}
	for i, s := range list {
		namespace, name, two := strings.Cut(s, "/")
		if !two {
			namespace, name = "default", s
		}
		if len(s) > longest || !dnsLabel.MatchString(namespace) || !subdomain.MatchString(name) {
			v.refuseValue(p.at(i), "is no service account", `write "name" or "namespace/name", without wildcards`)
		}
	}
}

func (v *validation) operation(p fieldPath, o *security.Operation) {
	for i, t := range operationTerms(o) {
		name := operationFields[i]
		v.policyValues(p.at(name), t.Attribute, t.Values)
		v.policyValues(p.at("not"+upperFirst(name)), t.Attribute, t.Not)
	}
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (v *validation) condition(p fieldPath, c *security.Condition) {
	t, ok := conditionTerm(c, v.d.key.Namespace)
	switch {
	case strings.HasPrefix(c.GetKey(), "experimental.envoy.filters."):
		v.unbuilt(p.at("key"), "what Envoy's filters say would not be looked at")
		return
	case !ok:
		v.refuseValue(p.at("key"), "is no attribute of a request", oneOf(c.GetKey(), conditionKeys()))
		return
	case t.Attribute == authz.Header && !isToken(t.Name):
		v.refuseValue(p.at("key"), "names no header", "write request.headers[x-name]")
	case t.Attribute == authz.Header && strings.EqualFold(t.Name, "host"):
		v.refuseValue(p.at("key"), "is no header here: it is the host of the request", "write hosts of an operation")
	}
	if len(c.GetValues())+len(c.GetNotValues()) == 0 {
		v.refuse(p, "has neither values nor notValues", "write one of them")
	}
	if t.Attribute == authz.ServiceAccount {
		v.serviceAccounts(p.at("values"), c.GetValues())
		v.serviceAccounts(p.at("notValues"), c.GetNotValues())
		return
	}
	v.policyValues(p.at("values"), t.Attribute, c.GetValues())
	v.policyValues(p.at("notValues"), t.Attribute, c.GetNotValues())
}

// policyValues checks a list of what an attribute is compared with.
func (v *validation) policyValues(p fieldPath, a authz.Attribute, list []string) {
	if a == authz.ServiceAccount {
		return // serviceAccounts has looked
	}
	if _, n, written := v.d.find(p); written && len(list) == 0 && !isNull(target(n)) {
		v.refuse(p, fieldName(p)+" is empty: it says neither everything nor nothing", "write values, or remove it")
	}
	for i, s := range list {
		v.policyValue(p.at(i), a, s)
	}
}

func (v *validation) policyValue(p fieldPath, a authz.Attribute, s string) {
	switch a {
	case authz.Port:
		if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
			v.refuseValue(p, "is no port", "write a number from 1 to 65535")
		}
		return
	case authz.SourceIP, authz.RemoteIP, authz.DestinationIP:
		if _, err := authz.ParseNetwork(s); err != nil {
			v.refuseValue(p, "is no address and no block of addresses", `write "192.0.2.1" or "192.0.2.0/24"`)
		}
		return
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(s, "*"), "*")
	template := a == authz.Path && (strings.Contains(s, "{*}") || strings.Contains(s, "{**}"))
	switch {
	case s == "":
		v.refuse(p, "an empty value matches nothing", `write "*" for any value, or remove it`)
	case template:
		if err := authz.CheckTemplate(s); err != nil {
			v.refuseValue(p, "is no path template", err.Error())
		}
	case s != "*" && (strings.Contains(inner, "*") || len(s)-len(inner) > 1):
		v.refuseValue(p, `has a "*" that is not at one end of it`, `write "value", "value*", "*value" or "*"`)
	case (a == authz.Principal) && strings.HasPrefix(s, "spiffe://"):
		v.refuseValue(p, "is a URI", "write it without spiffe://")
	case a == authz.Path && !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "*"):
		v.doubt(p, quoted(s)+` can never match: paths begin with "/"`, "write "+quoted("/"+s))
	case a == authz.Path && strings.ContainsAny(s, "?#"):
		v.doubt(p, quoted(s)+" can never match: the query is not part of the path", "write the path alone")
	case a == authz.Method && strings.ToUpper(s) != s:
		v.doubt(p, quoted(s)+" can never match: methods are in capital letters", "write "+quoted(strings.ToUpper(s)))
	}
}
