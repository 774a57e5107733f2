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
	for _, args := range [][]string{{"--config", "p.yaml"}, {"x"}, {"--config", "p.yaml", "--as", "spiffe://a/b", "x"}, {"--config", "p.yaml", "--source", "a", "x"}, {"--config", "p.yaml", "x/%00"}} {
		if got := heddle(t, "", append([]string{"authz", "check"}, args...)...); got.code != exitUsage {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := heddle(t, "", "authz", "check", "--config", "broken.yaml", "x"); got.code != exitInput {
		t.Errorf("broken: %+v", got)
	}
}
