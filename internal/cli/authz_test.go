package cli

import (
	"strings"
	"testing"
)

const authzPolicies = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: productpage-only}
spec:
  selector: {matchLabels: {app: reviews}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/productpage]}}]
    to: [{operation: {methods: [GET], ports: ['9080']}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-dev}
spec:
  selector: {matchLabels: {app: reviews}}
  action: DENY
  rules: [{to: [{operation: {paths: [/groups]}}], when: [{key: 'request.auth.claims[groups]', values: [dev]}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: posts, annotations: {istio.io/dry-run: "true"}}
spec: {action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}
`

const (
	customPolicy = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask}
spec: {action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {paths: [/ask]}}]}]}
`
	customProvider = `---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec: {extensionProviders: [{name: opa, envoyExtAuthzGrpc: {service: opa.example, port: 9191}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: opa}
spec: {hosts: [opa.example], resolution: STATIC, ports: [{number: 9191, name: grpc, protocol: GRPC}], endpoints: [{address: 192.0.2.1}]}
`
)

func TestAuthzCheck(t *testing.T) {
	files(t, map[string]string{"p.yaml": authzPolicies, "broken.yaml": broken, "custom.yaml": customPolicy + customProvider, "unknown.yaml": customPolicy})
	const who = "cluster.local/ns/default/sa/productpage"
	reviews := []string{"--config", "p.yaml", "--labels", "app=reviews"}
	for _, c := range []struct {
		name string
		args []string
		want result
	}{
		{"allowed", append(reviews, "--as", "spiffe://"+who, "reviews:9080/reviews/1"), result{0,
			"request    GET reviews:9080/reviews/1\ncaller     " + who + "\nverdict    allowed\nbecause    ns[default]-policy[productpage-only]-rule[0]\n" +
				"dry run    denied ns[default]-policy[posts]-rule[0]\n", ""}},
		{"nobody", append(reviews, "reviews:9080/reviews/1"), result{0,
			"request    GET reviews:9080/reviews/1\ncaller     nobody: no certificate\nverdict    403 RBAC: access denied\nbecause    rbac_access_denied_matched_policy[none]\n" +
				"dry run    denied ns[default]-policy[posts]-rule[0]\n", ""}},
		{"denied path", append(reviews, "--as", who, "-X", "POST", "reviews:9080//admin"), result{0,
			"request    POST reviews:9080//admin\ncaller     " + who + "\nverdict    403 RBAC: access denied\nbecause    rbac_access_denied_matched_policy[ns[default]-policy[no-admin]-rule[0]]\n" +
				"dry run    allowed\n", ""}},
		{"no safe spelling", append(reviews, "reviews:9080/%00"), result{0,
			"request    GET reviews:9080\ncaller     nobody: no certificate\nverdict    400 Bad Request\nbecause    the path, the host or the method has no safe spelling\n", ""}},
		{"by a claim", append(reviews, "--as", who, "--claims", `{"iss": "i", "sub": "alice", "groups": ["dev"]}`, "reviews:9080/groups"), result{0,
			"request    GET reviews:9080/groups\ncaller     " + who + "\ntoken      i/alice\nverdict    403 RBAC: access denied\n" +
				"because    rbac_access_denied_matched_policy[ns[default]-policy[no-dev]-rule[0]]\ndry run    denied ns[default]-policy[posts]-rule[0]\n", ""}},
		{"by another claim", append(reviews, "--as", who, "--claims", `{"iss": "i", "sub": "alice", "groups": ["ops"]}`, "-o", "json", "reviews:9080/groups"), result{0,
			"{\n  \"method\": \"GET\",\n  \"host\": \"reviews:9080\",\n  \"path\": \"/groups\",\n  \"caller\": \"" + who + "\",\n  \"token\": \"i/alice\",\n" +
				"  \"allowed\": true,\n  \"why\": \"ns[default]-policy[productpage-only]-rule[0]\",\n  \"dryRun\": \"denied ns[default]-policy[posts]-rule[0]\"\n}\n", ""}},
		{"another workload", []string{"--config", "p.yaml", "-X", "POST", "ratings:9080/x"}, result{0,
			"request    POST ratings:9080/x\ncaller     nobody: no certificate\nverdict    allowed\nbecause    no policy restricts it\ndry run    allowed\n", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := heddle(t, "", append([]string{"authz", "check"}, c.args...)...); got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
	custom := []string{"--config", "custom.yaml", "-H", "Authorization: Bearer x"}
	for _, c := range []struct {
		name, url, want string
	}{
		{"asked", "web/ask", "request    GET web/ask\ncaller     nobody: no certificate\n" +
			"custom     ns[default]-policy[ask]-rule[0] asks \"opa\" (envoyExtAuthzGrpc, opa.example:9191): nobody was asked, the verdict is for where that allows\n" +
			"verdict    allowed\nbecause    no policy restricts it\n"},
		{"not asked", "web/x", "request    GET web/x\ncaller     nobody: no certificate\nverdict    allowed\nbecause    no policy restricts it\n"},
	} {
		if got := heddle(t, "", append(append([]string{"authz", "check"}, custom...), c.url)...); got != (result{0, c.want, ""}) {
			t.Errorf("%s: got  %+v\nwant %s", c.name, got, c.want)
		}
	}
	if got := heddle(t, "", "authz", "check", "--config", "unknown.yaml", "web/ask"); got != (result{0, "request    GET web/ask\ncaller     nobody: no certificate\n" +
		"custom     ns[default]-policy[ask]-rule[0] asks \"opa\", whom nobody can ask\nverdict    403\nbecause    ext_authz_error\n", ""}) {
		t.Errorf("an unknown provider: %+v", got)
	}
	if got := heddle(t, "", "authz", "check", "--config", "unknown.yaml", "--authorizer", "opa", "web/ask"); got != (result{0, "request    GET web/ask\ncaller     nobody: no certificate\n" +
		"custom     ns[default]-policy[ask]-rule[0] asks \"opa\" (the program's own): nobody was asked, the verdict is for where that allows\n" +
		"verdict    allowed\nbecause    no policy restricts it\n", ""}) {
		t.Errorf("an authorizer of the program: %+v", got)
	}
	for args, code := range map[string]int{"": exitFindings, "--authorizer=opa": 0} {
		if got := heddle(t, "", append([]string{"analyze", "unknown.yaml"}, strings.Fields(args)...)...); got.code != code {
			t.Errorf("analyze %s: %+v", args, got)
		}
	}
	for _, args := range [][]string{{"--config", "p.yaml"}, {"x"}, {"--config", "p.yaml", "--as", "spiffe://a/b", "x"}, {"--config", "p.yaml", "--source", "a", "x"},
		{"--config", "p.yaml", "--claims", "[]", "x"}} {
		if got := heddle(t, "", append([]string{"authz", "check"}, args...)...); got.code != exitUsage {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := heddle(t, "", "authz", "check", "--config", "broken.yaml", "x"); got.code != exitInput {
		t.Errorf("broken: %+v", got)
	}
}

// TestExplainAs: explain says what those who are called let in, told apart by their labels.
func TestExplainAs(t *testing.T) {
	files(t, map[string]string{"p.yaml": authzPolicies, "s.yaml": `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 9080}]
  endpoints:
  - {address: 10.0.0.1, labels: {app: reviews, version: v1}}
  - {address: 10.0.0.2, labels: {app: reviews, version: v1}}
  - {address: 10.0.0.3, labels: {app: other}}
`})
	args := []string{"explain", "--config", "p.yaml", "--config", "s.yaml"}
	got := heddle(t, "", append(args, "--as", "spiffe://cluster.local/ns/default/sa/web", "reviews/reviews/1")...)
	const want = "policies   namespace default, app=reviews, version=v1\n" +
		"           403 RBAC: access denied: rbac_access_denied_matched_policy[none]\n" +
		"           dry run: denied ns[default]-policy[posts]-rule[0]\n" +
		"policies   namespace default, app=other\n" +
		"           allowed: no policy restricts it\n" +
		"           dry run: denied ns[default]-policy[posts]-rule[0]\n"
	if got.code != 0 || !strings.HasSuffix(got.stdout, want) || strings.Count(got.stdout, "policies ") != 2 {
		t.Errorf("%d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if got = heddle(t, "", append(args, "--as", "cluster.local/ns/default/sa/productpage", "-o", "json", "reviews/reviews/1")...); !strings.Contains(got.stdout, `"allowed": true`) {
		t.Errorf("%s%s", got.stdout, got.stderr)
	}
	if got = heddle(t, "", append(args, "reviews/reviews/1")...); strings.Contains(got.stdout, "policies") {
		t.Errorf("nobody asked: %s", got.stdout)
	}
	if got = heddle(t, "", append(args, "--as", "web", "reviews/")...); got.code != exitUsage {
		t.Errorf("%+v", got)
	}
}
