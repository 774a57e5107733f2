package cli

import "testing"

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

func TestAuthzCheck(t *testing.T) {
	files(t, map[string]string{"p.yaml": authzPolicies, "broken.yaml": broken})
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
	for _, args := range [][]string{{"--config", "p.yaml"}, {"x"}, {"--config", "p.yaml", "--as", "spiffe://a/b", "x"}, {"--config", "p.yaml", "--source", "a", "x"}, {"--config", "p.yaml", "x/%00"}} {
		if got := heddle(t, "", append([]string{"authz", "check"}, args...)...); got.code != exitUsage {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := heddle(t, "", "authz", "check", "--config", "broken.yaml", "x"); got.code != exitInput {
		t.Errorf("broken: %+v", got)
	}
}
