package authz_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/heddlemesh/mesh/identity/authz"
)

// service is policies of n with ten rules each: who may call which path by which method.
func service(n int) []authz.Policy {
	var list []authz.Policy
	for i := range n {
		p := authz.Policy{Namespace: "default", Name: fmt.Sprint("p", i), Action: authz.Action(i % 2)}
		for k := range 10 {
			to := []authz.Term{{Attribute: authz.Path, Values: []string{fmt.Sprintf("/svc%d/op%d*", i, k)}}, {Attribute: authz.Method, Values: []string{"GET", "POST"}}}
			from := []authz.Term{{Attribute: authz.Namespace, Values: []string{fmt.Sprint("team", i), "foo"}}}
			if p.Action == authz.Deny {
				from = []authz.Term{{Attribute: authz.Namespace, Not: []string{fmt.Sprint("team", i), "foo"}}}
			}
			p.Rules = append(p.Rules, authz.Rule{From: [][]authz.Term{from}, To: [][]authz.Term{to}})
		}
		list = append(list, p)
	}
	return list
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 1000} {
		for _, order := range []string{"first", "last", "nobody"} {
			b.Run(fmt.Sprintf("policies=%d/%s", n, order), func(b *testing.B) {
				policies := service(n)
				if order == "last" {
					slices.Reverse(policies)
				}
				set := compile(b, policies...)
				q := request(path(fmt.Sprintf("/svc%d/op9/x", n-2)), peer("cluster.local", "foo", "web"))
				if order == "nobody" {
					q = request(path("/elsewhere"))
				}
				b.ReportAllocs()
				for b.Loop() {
					q.Prepare()
					if set.Decide(q).Allowed != (order != "nobody") {
						b.Fatal("decided otherwise")
					}
				}
			})
		}
	}
}

// TestAllocs: a decision allocates nothing, whatever it is.
func TestAllocs(t *testing.T) {
	set := compile(t, service(10)...)
	for _, q := range []*authz.Request{
		request(path("/svc8/op9/x"), peer("cluster.local", "foo", "web")), request(path("/elsewhere"), header("x-role", "a, b")),
		request(host("reviews:9080")),
	} {
		if n := testing.AllocsPerRun(100, func() { q.Prepare(); set.Decide(q) }); n != 0 {
			t.Errorf("%s: %v allocations", q.Path, n)
		}
	}
}

// BenchmarkCompile compiles 10,000 rules of 1,000 values each (attacks.md A-057).
func BenchmarkCompile(b *testing.B) {
	var policies []authz.Policy
	values := make([]string, 1000)
	for i := range values {
		values[i] = fmt.Sprintf("/a/very/usual/path/%d", i)
	}
	for i := range 1000 {
		p := authz.Policy{Namespace: "n", Name: fmt.Sprint(i), Action: authz.Deny}
		for k := range 10 {
			own := slices.Clone(values)
			own[0] = fmt.Sprintf("/own/%d/%d", i, k)
			p.Rules = append(p.Rules, authz.Rule{To: [][]authz.Term{{{Attribute: authz.Path, Values: own}}}})
		}
		policies = append(policies, p)
	}
	for b.Loop() {
		set := compile(b, policies...)
		if set.Decide(request(path("/own/999/9"))).Allowed || !set.Decide(request(path("/own"))).Allowed {
			b.Error("decided otherwise")
		}
	}
}
