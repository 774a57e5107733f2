package config

import (
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/snapshot"
)

// TestOrigins: each cluster says where its subset and its policy are written, and each host where it is declared.
func TestOrigins(t *testing.T) {
	t.Parallel()
	const base = `loadBalancer: {simple: RANDOM}`
	rule := func(name, policy, subsets string) string {
		return doc("DestinationRule", name, "\n  host: reviews\n  trafficPolicy: {"+policy+"}\n  subsets:\n  - {name: v1, labels: {version: v1}"+subsets+"}")
	}
	vs := doc("VirtualService", "reviews", `{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}`)
	for _, c := range []struct {
		name string
		docs []string
		want string // the origin of the subset's cluster
	}{
		{"no rule", nil, ""},
		{"subset alone", []string{doc("DestinationRule", "r", reviewsRule)}, "DestinationRule default/r subsets[0] (<inline 3>:4:33)"},
		{"subset and policy", []string{rule("r", base, "")}, "DestinationRule default/r subsets[0] (<inline 3>:8:5), trafficPolicy (<inline 3>:6:3)"},
		{"policy for the port", []string{rule("r", base+", portLevelSettings: [{port: {number: 80}}, {port: {number: 9080}}]", "")},
			"DestinationRule default/r subsets[0] (<inline 3>:8:5), trafficPolicy.portLevelSettings[1] (<inline 3>:6:93)"},
		{"policy of the subset for the port", []string{rule("r", base, ", trafficPolicy: {portLevelSettings: [{port: {number: 9080}}]}")},
			"DestinationRule default/r subsets[0].trafficPolicy.portLevelSettings[0] (<inline 3>:8:75)"},
		{"two rules", []string{doc("DestinationRule", "a", "{host: reviews, trafficPolicy: {"+base+"}}"), doc("DestinationRule", "b", reviewsRule)},
			"DestinationRule default/b subsets[0] (<inline 4>:4:33), DestinationRule default/a trafficPolicy (<inline 3>:4:23)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{}, append([]string{doc("ServiceEntry", "reviews", reviewsEntry), vs}, c.docs...)...)
			if refused := w.Status().Refused; refused != nil {
				t.Fatal(refused)
			}
			got := ""
			for _, cluster := range w.live.Clusters {
				if strings.Contains(cluster.Name, "|v1|") {
					got = cluster.Origin
				}
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			host, _ := w.live.Tables[snapshot.Mesh].Lookup("reviews", 9080)
			if host.Origin != "ServiceEntry default/reviews ports[0] (<inline 1>:4:80)" {
				t.Errorf("host: %s", host.Origin)
			}
		})
	}
	alias := "apiVersion: v1\nkind: Service\nmetadata: {name: again}\nspec: {type: ExternalName, externalName: reviews.default.svc.cluster.local}\n"
	w := newWorld(t, Options{}, doc("ServiceEntry", "reviews", reviewsEntry), alias, doc("VirtualService", "other", `{hosts: [other.example.com], http: [{route: [{destination: {host: reviews}}]}]}`))
	for host, want := range map[string]string{
		"again":             "Service default/again externalName (<inline 2>:4:42), another name of ServiceEntry default/reviews ports[0] (<inline 1>:4:80)",
		"other.example.com": "VirtualService default/other hosts (<inline 3>:4:8)",
	} {
		port := uint16(9080)
		if host != "again" {
			port = 80
		}
		if v, _ := w.live.Tables[snapshot.Mesh].Lookup(host, port); v == nil || v.Origin != want {
			t.Errorf("%s: %+v, want %s", host, v, want)
		}
	}
}
