package config

import (
	"slices"
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
)

func TestDelegateReferences(t *testing.T) {
	t.Parallel()
	entry := doc("ServiceEntry", "reviews", reviewsEntry)
	root := func(rule string) string {
		return doc("VirtualService", "root", "\n  hosts: [reviews]\n  http:\n  - "+rule)
	}
	leaf := func(spec string) string { return doc("VirtualService", "leaf", spec) }
	const toReviews = "route: [{destination: {host: reviews}}]"
	good := leaf("{http: [{" + toReviews + "}]}")
	for name, c := range map[string]struct {
		docs []string
		want []string
		text string
	}{
		"nothing to say": {[]string{entry, root("delegate: {name: leaf}"), good}, nil, ""},
		"A-023 missing": {[]string{entry, root("delegate: {name: left}"), good}, []string{
			"IST0101 Error <inline 2>:7:22 spec.http[0].delegate.name", "HDL0009 Warning <inline 3>:3:18 metadata.name"},
			`there is no VirtualService default/left; the rule is left out, its requests go on to the rules below it, and get 404, flag NR, where none takes them; did you mean "default/leaf"?`},
		"A-023 with hosts": {[]string{entry, root("delegate: {name: leaf}"), leaf("{hosts: [leaf], http: [{" + toReviews + "}]}")}, []string{
			"IST0101 Error <inline 2>:7:22 spec.http[0].delegate.name"}, "VirtualService default/leaf (<inline 3>:4) has hosts, and so is no delegate"},
		"A-023 itself": {[]string{entry, root("delegate: {name: root}")}, []string{
			"IST0101 Error <inline 2>:7:22 spec.http[0].delegate.name"}, "VirtualService default/root (<inline 2>:5) has hosts"},
		"not exported": {[]string{entry, root("delegate: {name: leaf, namespace: shop}"), strings.Replace(leaf("{exportTo: [.], http: [{"+toReviews+"}]}"), "name: leaf", "name: leaf, namespace: shop", 1)}, []string{
			"IST0101 Error <inline 2>:7:22 spec.http[0].delegate.name"}, "VirtualService shop/leaf (<inline 3>:4) is not exported to namespace default"},
		"conflict": {[]string{entry, root("match: [{uri: {prefix: /a}}]\n    delegate: {name: leaf}"),
			leaf("\n  http:\n  - match: [{uri: {exact: /a/b}}, {uri: {exact: /b}}]\n    " + toReviews)}, []string{
			"HDL0012 Error <inline 3>:6:35 spec.http[0].match[1]", "HDL0012 Error <inline 2>:8:5 spec.http[0].delegate"},
			"left out: uri contradicts every match of VirtualService default/root http[0] (<inline 2>:7), which hands over to it"},
		"destinations of both": {[]string{entry, root("mirror: {host: lost}\n    delegate: {name: leaf}"), leaf("{http: [{route: [{destination: {host: gone}}]}]}")}, []string{
			"IST0101 Error <inline 2>:7:20 spec.http[0].mirror.host", "IST0101 Error <inline 3>:4:45 spec.http[0].route[0].destination.host"},
			`"lost" (lost.default.svc.cluster.local) is not in the registry; copies go nowhere`},
		"nobody's": {[]string{entry, good}, []string{"HDL0009 Warning <inline 2>:3:18 metadata.name"}, "no rule delegates to it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newWorld(t, Options{}, c.docs...).Status()
			if s.Refused != nil {
				t.Fatal(s.Refused)
			}
			found := slices.DeleteFunc(s.Findings, func(f Finding) bool { return f.Level == Info })
			wantFindings(t, found, c.want...)
			if c.text != "" && (len(found) == 0 || !strings.Contains(found[0].Message+"; "+found[0].Hint, c.text)) {
				t.Errorf("%v, want %q", found, c.text)
			}
		})
	}
}

// TestDelegatesAreJoined: what is not said is inherited, destinations keep the namespace they were written in, and a
// rule points at where it stands.
func TestDelegatesAreJoined(t *testing.T) {
	t.Parallel()
	root := doc("VirtualService", "root", `
  hosts: [reviews]
  http:
  - name: r
    match: [{name: m, uri: {prefix: /a}, headers: {x: {exact: "1"}}}]
    delegate: {name: leaf, namespace: shop}
    timeout: 3s
    retries: {attempts: 0}
    mirror: {host: reviews}
    headers: {response: {set: {a: "1"}}}
  - name: last
    route: [{destination: {host: reviews}}]`)
	leaf := strings.Replace(doc("VirtualService", "leaf", `
  http:
  - name: l
    match: [{name: n, uri: {exact: /a/b}}, {method: {exact: GET}}]
    timeout: 1s
    route: [{destination: {host: ratings}}]
  - redirect: {uri: /elsewhere}`), "name: leaf", "name: leaf, namespace: shop", 1)
	w := newWorld(t, Options{}, doc("ServiceEntry", "reviews", reviewsEntry), root, leaf)
	table := w.live.Tables[""]
	v, _ := table.Lookup("reviews", 9080)
	var names []string
	for _, r := range v.Routes {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "r-l r last" {
		t.Fatalf("rules %s", got)
	}
	r := v.Routes[0]
	if r.Origin != "VirtualService shop/leaf http[0] (<inline 3>:6:5), delegated by VirtualService default/root http[0] (<inline 2>:7:5)" {
		t.Error(r.Origin)
	}
	if r.Timeout.Seconds() != 1 || r.Retry != nil || r.Split[0].Cluster != "outbound|9080||ratings.shop.svc.cluster.local" || r.Split[0].Response == nil ||
		len(r.Mirrors) != 1 || r.Mirrors[0].Cluster != "outbound|9080||reviews.default.svc.cluster.local" {
		t.Errorf("%+v", r)
	}
	if len(r.Matches) != 2 || r.Matches[0].String() != `path exact "/a/b", header x exact "1"` || r.Matches[1].String() != `path prefix "/a", method exact "GET", header x exact "1"` ||
		r.Title(&r.Matches[0]) != "r-l.m-n" {
		t.Errorf("%s, %s", r.Matches[0].String(), r.Matches[1].String())
	}
	if r = v.Routes[1]; r.Redirect == nil || len(r.Split) > 0 || r.Timeout.Seconds() != 3 || r.Matches[0].String() != `path prefix "/a", header x exact "1"` {
		t.Errorf("%+v", r)
	}
}

func TestContradictions(t *testing.T) {
	t.Parallel()
	match := func(text string) *networking.HTTPMatchRequest {
		resources, findings := load(virtualServiceText("  hosts: [a]\n  http: [{match: [" + text + "]}]\n"))
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		return resources[0].doc.spec.(*networking.VirtualService).Http[0].Match[0]
	}
	for _, c := range []struct{ root, leaf, want string }{
		{"{}", "{uri: {regex: a}}", ""},
		{"{uri: {regex: a}}", "{}", ""},
		{"{uri: {regex: a}}", "{uri: {regex: a}}", "uri"},
		{"{uri: {regex: a}}", "{uri: {exact: a}}", "uri"},
		{"{uri: {prefix: /a}}", "{uri: {regex: /a}}", "uri"},
		{"{uri: {prefix: /a}}", "{uri: {prefix: /a}}", ""},
		{"{uri: {prefix: /a}}", "{uri: {prefix: /ab}}", ""},
		{"{uri: {prefix: /ab}}", "{uri: {prefix: /a}}", "uri"},
		{"{uri: {prefix: /a}}", "{uri: {exact: /a/b}}", ""},
		{"{uri: {exact: /a}}", "{uri: {exact: /a}}", ""},
		{"{uri: {exact: /a}}", "{uri: {exact: /b}}", "uri"},
		{"{uri: {exact: /a}}", "{uri: {prefix: /a}}", "uri"},
		{"{scheme: {exact: http}}", "{scheme: {exact: https}}", "scheme"},
		{"{method: {exact: GET}}", "{method: {exact: PUT}}", "method"},
		{"{authority: {prefix: a}}", "{authority: {exact: b}}", "authority"},
		{"{headers: {a: {exact: x}}}", "{headers: {b: {regex: y}}}", ""},
		{"{headers: {a: {exact: x}}}", "{headers: {a: {exact: y}}}", "headers.a"},
		{"{headers: {a: {}}}", "{headers: {a: {exact: y}}}", "headers.a"},
		{"{headers: {a: {}}}", "{headers: {a: {}}}", "headers.a"},
		{"{withoutHeaders: {a: {exact: x}}}", "{withoutHeaders: {a: {regex: y}}}", "withoutHeaders.a"},
		{"{queryParams: {a: {prefix: x}}}", "{queryParams: {a: {exact: y}}}", "queryParams.a"},
		{"{ignoreUriCase: true}", "{}", "ignoreUriCase"},
		{"{ignoreUriCase: true, uri: {prefix: /a}}", "{ignoreUriCase: true}", ""},
		{"{port: 80}", "{port: 81}", "port"},
		{"{port: 80}", "{}", ""},
		{"{sourceLabels: {a: b}}", "{sourceLabels: {a: c}}", "sourceLabels.a"},
		{"{sourceLabels: {a: b}}", "{sourceLabels: {c: d}}", ""},
		{"{sourceNamespace: a}", "{}", "sourceNamespace"},
		{"{sourceNamespace: a}", "{sourceNamespace: a}", ""},
		{"{}", "{sourceNamespace: a}", ""},
		{"{gateways: [mesh, edge]}", "{gateways: [mesh]}", ""},
		{"{gateways: [edge]}", "{gateways: [mesh]}", "gateways"},
		{"{gateways: [./edge]}", "{gateways: [x/edge]}", ""},
	} {
		root, leaf := []*networking.HTTPMatchRequest{match(c.root)}, []*networking.HTTPMatchRequest{match(c.leaf)}
		joined, conflict := joinMatches("x", root, "y", leaf)
		if conflict.field != c.want || (joined == nil) != (c.want != "") {
			t.Errorf("%s in %s: %+v, want %q", c.leaf, c.root, conflict, c.want)
		}
	}
}

// TestWhatADelegateLeavesGoesOn: a rule behind one that hands over is not beyond reach.
func TestWhatADelegateLeavesGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, doc("ServiceEntry", "reviews", reviewsEntry),
		doc("VirtualService", "root", `{hosts: [reviews], http: [{match: [{uri: {prefix: /a}}], delegate: {name: leaf}}, {match: [{uri: {prefix: /a/b}}], route: [{destination: {host: reviews}}]}, {delegate: {name: leaf}}, {route: [{destination: {host: reviews}}]}]}`),
		doc("VirtualService", "leaf", `{http: [{match: [{uri: {exact: /a/x}}], route: [{destination: {host: reviews}}]}]}`))
	wantFindings(t, w.Status().Findings)
	v, _ := w.live.Tables[""].Lookup("reviews", 9080)
	if len(v.Routes) != 4 {
		t.Errorf("%d rules", len(v.Routes))
	}
}
