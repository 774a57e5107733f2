package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/snapshot"
)

func policyDoc(metadata, spec string) string {
	return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p" + metadata + "}\nspec: " + spec + "\n"
}

// TestValidateAuthorizationPolicy: what could make a policy restrict less than its author means is refused ("!"), what
// never matches is warned about ("?"); attacks.md.
func TestValidateAuthorizationPolicy(t *testing.T) {
	t.Parallel()
	rule := func(s string) string { return "{rules: [" + s + "]}" }
	source := func(s string) string { return rule("{from: [{source: {" + s + "}}]}") }
	operation := func(s string) string { return rule("{to: [{operation: {" + s + "}}]}") }
	when := func(s string) string { return rule("{when: [{" + s + "}]}") }
	dry := `, annotations: {istio.io/dry-run: "%"}`
	for _, c := range []struct {
		name, metadata, spec string
		want                 string // outcome and path, and a piece of the message behind " ~ "
	}{
		{"nothing", "", "{}", "i spec ~ allows nothing"},
		{"no rules, ALLOW", "", "{rules: []}", "i spec ~ allows nothing"},
		{"all", "", rule("{}"), ""},
		{"no rules, DENY", "", "{action: DENY}", "! spec ~ never matches"},
		{"no rules, AUDIT", "", "{action: AUDIT}", "! spec ~ never matches"},
		{"CUSTOM", "", "{action: CUSTOM, rules: [{}], provider: {name: opa}}", ""},
		{"CUSTOM without a provider", "", "{action: CUSTOM, rules: [{}]}", "! spec ~ provider is missing"},
		{"CUSTOM without its name", "", "{action: CUSTOM, rules: [{}], provider: {name: ''}}", "! spec ~ provider is missing"},
		{"CUSTOM without rules", "", "{action: CUSTOM, provider: {name: opa}}", "! spec ~ never matches"},
		{"dry run of CUSTOM", strings.Replace(dry, "%", "true", 1), "{action: CUSTOM, rules: [{}], provider: {name: opa}}", "! metadata.annotations ~ for ALLOW and DENY"},
		{"CUSTOM by principal", "", "{action: CUSTOM, provider: {name: opa}, rules: [{from: [{source: {principals: [a]}}]}]}",
			"! spec.rules[0].from[0].source.principals ~ not known yet"},
		{"CUSTOM by no namespace", "", "{action: CUSTOM, provider: {name: opa}, rules: [{from: [{source: {notNamespaces: [a]}}]}]}",
			"! spec.rules[0].from[0].source.notNamespaces ~ not known yet"},
		{"CUSTOM by claim", "", "{action: CUSTOM, provider: {name: opa}, rules: [{when: [{key: 'request.auth.claims[a]', values: [b]}]}]}",
			"! spec.rules[0].when[0].key ~ not known yet"},
		{"provider of DENY", "", "{action: DENY, rules: [{}], provider: {name: opa}}", "! spec.provider ~ for action CUSTOM"},
		{"unknown action", "", "{action: PERMIT}", "! spec.action ~ PERMIT"},
		{"targetRefs", "", "{targetRefs: [{kind: Gateway, name: g}]}", "! spec.targetRefs ~ not built"},
		{"selector and targetRefs", "", "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Gateway, name: g}]}", "! spec.targetRefs ~ not built"},
		{"empty selector", "", "{rules: [{}], selector: {}}", "? spec.selector ~ all workloads"},
		{"empty label", "", "{rules: [{}], selector: {matchLabels: {a: ''}}}", "! spec.selector.matchLabels.a ~ no value"},
		{"empty key", "", "{rules: [{}], selector: {matchLabels: {'': a}}}", "! spec.selector.matchLabels[ ~ no key"},
		{"dry run", strings.Replace(dry, "%", "true", 1), "{action: DENY, rules: [{}]}", ""},
		{"dry run of AUDIT", strings.Replace(dry, "%", "true", 1), "{action: AUDIT, rules: [{}]}", "! metadata.annotations ~ for ALLOW and DENY"},
		{"dry run, perhaps", strings.Replace(dry, "%", "maybe", 1), "{rules: [{}]}", "! metadata.annotations ~ neither true nor false"},

		{"no source", "", rule("{from: [{}]}"), "! spec.rules[0].from[0] ~ no source"},
		{"empty source", "", rule("{from: [{source: {}}]}"), "! spec.rules[0].from[0] ~ no source"},
		{"no operation", "", rule("{to: [{}]}"), "! spec.rules[0].to[0] ~ no operation"},
		{"empty list alone", "", operation("paths: []"), "! spec.rules[0].to[0] ~ no operation"},
		{"empty list", "", operation("paths: [], methods: [GET]"), "! spec.rules[0].to[0].operation.paths ~ neither everything nor nothing"},
		{"empty value", "", source("principals: ['']"), "! spec.rules[0].from[0].source.principals[0] ~ matches nothing"},
		{"star in the middle", "", source("namespaces: [a*b]"), "! spec.rules[0].from[0].source.namespaces[0] ~ not at one end"},
		{"stars at both ends", "", operation("paths: ['*a*']"), "! spec.rules[0].to[0].operation.paths[0] ~ not at one end"},
		{"two stars", "", operation("paths: ['**']"), "! spec.rules[0].to[0].operation.paths[0] ~ not at one end"},
		{"template", "", operation("paths: ['/a/{*}/{**}']"), ""},
		{"template with more in a segment", "", operation("paths: ['/a/{*}.txt']"), "! spec.rules[0].to[0].operation.paths[0] ~ no path template"},
		{"template that goes on", "", operation("notPaths: ['/{**}/a/{*}']"), "! spec.rules[0].to[0].operation.notPaths[0] ~ last operator"},
		{"path without a slash", "", operation("paths: [admin]"), "? spec.rules[0].to[0].operation.paths[0] ~ never match"},
		{"path with a query", "", operation("paths: ['/a?b']"), "? spec.rules[0].to[0].operation.paths[0] ~ never match"},
		{"small method", "", operation("methods: [get]"), "? spec.rules[0].to[0].operation.methods[0] ~ never match"},
		{"port 0", "", operation("ports: ['0']"), "! spec.rules[0].to[0].operation.ports[0] ~ no port"},
		{"port by name", "", operation("notPorts: [http]"), "! spec.rules[0].to[0].operation.notPorts[0] ~ no port"},
		{"URI of a principal", "", source("principals: ['spiffe://cluster.local/ns/a/sa/b']"), "! spec.rules[0].from[0].source.principals[0] ~ without spiffe"},
		{"block of 33 bits", "", source("ipBlocks: [10.0.0.0/33]"), "! spec.rules[0].from[0].source.ipBlocks[0] ~ no address"},
		{"address and port", "", source("notRemoteIpBlocks: ['10.0.0.1:80']"), "! spec.rules[0].from[0].source.notRemoteIpBlocks[0] ~ no address"},
		{"zone", "", source("ipBlocks: ['fe80::1%eth0']"), "! spec.rules[0].from[0].source.ipBlocks[0] ~ no address"},
		{"IPv4 within IPv6", "", source("ipBlocks: ['::ffff:10.0.0.1']"), ""},
		{"account", "", source("serviceAccounts: [a, b/c.d]"), ""},
		{"account with a star", "", source("serviceAccounts: ['b/*']"), "! spec.rules[0].from[0].source.serviceAccounts[0] ~ no service account"},
		{"accounts and namespaces", "", source("serviceAccounts: [a], notNamespaces: [b]"), "! spec.rules[0].from[0].source ~ cannot stand beside"},
		{"seventeen accounts", "", source("serviceAccounts: [" + strings.Repeat("a,", 17) + "]"), "! spec.rules[0].from[0].source.serviceAccounts ~ at most 16"},

		{"unknown key", "", when("key: source.ipp, values: [a]"), "! spec.rules[0].when[0].key ~ source.ip"},
		{"no key", "", when("values: [a]"), "! spec.rules[0].when[0].key ~ no attribute"},
		{"header without a name", "", when("key: 'request.headers[]', values: [a]"), "! spec.rules[0].when[0].key ~ no attribute"},
		{"pseudo header", "", when("key: 'request.headers[:path]', values: [a]"), "! spec.rules[0].when[0].key ~ names no header"},
		{"Host", "", when("key: 'request.headers[Host]', values: [a]"), "! spec.rules[0].when[0].key ~ no header here"},
		{"claims without brackets", "", when("key: request.auth.claims.a, values: [a]"), "! spec.rules[0].when[0].key ~ no attribute"},
		{"nested claims", "", when("key: 'request.auth.claims[a][b]', values: [a]"), ""},
		{"neither", "", when("key: source.ip"), "! spec.rules[0].when[0] ~ neither values nor notValues"},
		{"address", "", when("key: remote.ip, notValues: [x]"), "! spec.rules[0].when[0].notValues[0] ~ no address"},
		{"Envoy's", "", when("key: 'experimental.envoy.filters.network.mysql_proxy[a.b]', values: [a]"), "! spec.rules[0].when[0].key ~ not built"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			resources, found := Parse("a.yaml", []byte(policyDoc(c.metadata, c.spec)))
			if len(resources) == 1 {
				if found = append(found, resources[0].doc.decode()...); len(found) == 0 {
					found = resources[0].doc.validate()
				}
			}
			head, piece, _ := strings.Cut(c.want, " ~ ")
			got := ""
			for _, f := range found {
				mark := map[Level]string{Info: "i ", Warning: "? ", Error: "! "}[f.Level]
				if f.Level == Error && !f.Refused {
					t.Errorf("not refused: %v", f)
				}
				if got == "" || strings.HasPrefix(mark+f.Path, head) {
					got = mark + f.Path
				}
				if f.Line == 0 {
					t.Errorf("without a position: %v", f)
				}
			}
			if !strings.HasPrefix(got, head) || got == "" != (head == "") ||
				piece != "" && !slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.Message+" "+f.Hint, piece) }) {
				t.Errorf("found %q, want %q: %v", got, c.want, found)
			}
		})
	}
}

// TestPolicyTrustDomains: a principal in one of the mesh's trust domains is one in each (MeshConfig.trustDomain,
// trustDomainAliases), "cluster.local" always among them; a service account is one of its namespace, to the letter
// (attacks.md A-053).
func TestPolicyTrustDomains(t *testing.T) {
	t.Parallel()
	decide := func(config, source string, p authz.Peer) bool {
		w := newWorld(t, Options{Workload: snapshot.Workload{Namespace: "default"}},
			meshDoc("m", config)+"---\n"+policyDoc("", "{rules: [{from: [{source: {"+source+"}}]}]}"))
		if r := w.Status().Refused; r != nil {
			t.Fatal(r)
		}
		q := &authz.Request{Request: &call.Request{Method: "GET", Path: "/", Headers: call.HTTPHeaders{}}, Authority: "web", Peer: p}
		q.Prepare()
		return w.live.Authorization.Decide(q).Allowed
	}
	who := func(domain string) authz.Peer {
		return authz.Peer{Principal: domain + "/ns/foo/sa/web", TrustDomain: domain, Namespace: "foo", ServiceAccount: "foo/web"}
	}
	both := "{trustDomain: new.example, trustDomainAliases: [old.example]}"
	for _, c := range []struct {
		config, source, domain string
		want                   bool
	}{
		{"{}", "principals: [cluster.local/ns/foo/sa/web]", "cluster.local", true},
		{"{}", "principals: [cluster.local/ns/foo/sa/web]", "other", false},
		{both, "principals: [old.example/ns/foo/sa/web]", "new.example", true},
		{both, "principals: [new.example/ns/foo/*]", "old.example", true},
		{both, "principals: [cluster.local/ns/foo/sa/web]", "new.example", true},
		{both, "principals: [elsewhere/ns/foo/sa/web]", "new.example", false},
		{both, "notPrincipals: [cluster.local/ns/foo/sa/web]", "old.example", false},
		{"{}", "serviceAccounts: [foo/web]", "cluster.local", true},
		{"{}", "serviceAccounts: [web]", "cluster.local", false}, // of the policy's namespace
		{"{}", "serviceAccounts: [foo/w.b]", "cluster.local", false},
	} {
		if got := decide(c.config, c.source, who(c.domain)); got != c.want {
			t.Errorf("%s, %s, %s: allowed %v", c.config, c.source, c.domain, got)
		}
	}
}

// TestUnprovedCallers: a policy that names callers is taken, for it lets nobody in, and a finding says so.
func TestUnprovedCallers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, policyDoc("", "{rules: [{from: [{source: {namespaces: [foo]}}]}]}"))
	wantFindings(t, w.Status().Findings, "HDL0014 Info <inline 1>:4:8 spec.rules")
	if r := newWorld(t, Options{}, policyDoc(", namespace: shop", "{rules: [{from: [{source: {namespaces: [foo]}}]}]}")).live; r.Authorization != nil {
		t.Error("a policy of another namespace applies")
	}
}
