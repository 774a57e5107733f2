package config

import (
	"strings"
	"testing"
)

// A-024 and the forms that are accepted.
func TestCheckHost(t *testing.T) {
	t.Parallel()
	label63, label64 := strings.Repeat("a", 63), strings.Repeat("a", 64)
	name253 := strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
	for _, c := range []struct{ host, problem string }{
		{"reviews", ""},
		{"reviews.shop.svc.cluster.local", ""},
		{"Reviews.Shop", ""},
		{"reviews.shop.", ""},
		{"a", ""},
		{"1a.2b", ""},
		{"*", ""},
		{"*.com", ""},
		{"*.shop.com", ""},
		{"*-eu.shop.com", ""},
		{"*x", ""},
		{label63 + ".com", ""},
		{name253, ""},
		{name253 + ".", ""},
		{"", "is empty"},
		{"*.*", `has a "*" that is not at its start`},
		{"**", `has a "*" that is not at its start`},
		{"a*b", `has a "*" that is not at its start`},
		{"a.*.b", `has a "*" that is not at its start`},
		{"shop.*", `has a "*" that is not at its start`},
		{"*.", "is no host"},
		{"*-", "has an empty label"},
		{"*-.com", "has an empty label"},
		{"*--a.com", `has the label "-a"`},
		{"*..com", "has an empty label"},
		{".", "has an empty label"},
		{".com", "has an empty label"},
		{"a..b", "has an empty label"},
		{"a..", "has an empty label"},
		{"foo_bar", `has the label "foo_bar"`},
		{"-a.com", `has the label "-a"`},
		{"a-.com", `has the label "a-"`},
		{"a b", `has the label "a b"`},
		{"straße.de", `has the label "straße"`},
		{label64 + ".com", "has a label of 64 characters"},
		{name253 + "b", "has 254 characters"},
		{"10.0.0.1", "is an IP address"},
		{"::1", "is an IP address"},
		{"[::1]", "is an IP address"},
		{"10.0.0.256", "ends in a number"},
		{"shop.1", "ends in a number"},
		{"1234", "ends in a number"},
		{"reviews:9080", "names a port"},
		{"[::1]:80", "names a port"},
		{"http://reviews", "is a URL"},
		{"shop/reviews", `has the label "shop/reviews"`},
	} {
		problem, hint := checkHost(c.host)
		if problem != c.problem || (problem == "") != (hint == "") {
			t.Errorf("checkHost(%q) = %q, %q, want %q", c.host, problem, hint, c.problem)
		}
	}
}

func TestIsWildcard(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{"*": true, "*.com": true, "*-a.com": true, "a.com": false, "": false, "a*": false} {
		if isWildcard(host) != want {
			t.Errorf("isWildcard(%q) = %v", host, !want)
		}
	}
}

// exportTo, for every kind that has it.
func TestValidateExportTo(t *testing.T) {
	t.Parallel()
	cases := []validateCase{
		{"everyone", `  exportTo: ["*"]`, nil},
		{"nobody", `  exportTo: ["~"]`, nil},
		{"own and others", `  exportTo: [., other]`, nil},
		{"own and everyone", `  exportTo: [., "*"]`, []string{`IST0106! 5:17 spec.exportTo[1] ~ "*" is not the only entry`}},
		{"nobody and another", "  exportTo:\n  - \"~\"\n  - other", []string{`IST0106! 6:5 spec.exportTo[0] ~ "~" is not the only entry`}},
		{"duplicate", `  exportTo: [a, b, a]`, []string{`IST0106! 5:20 spec.exportTo[2] ~ "a" repeats entry 0, "a"`}},
		{"own twice", `  exportTo: [., shop]`, []string{`IST0106! 5:17 spec.exportTo[1] ~ "shop" repeats entry 0, "."`}},
		{"everyone twice", `  exportTo: ["*", "*"]`, []string{
			`IST0106! 5:14 spec.exportTo[0] ~ "*" is not the only entry`,
			`IST0106! 5:19 spec.exportTo[1] ~ "*" is not the only entry`,
			`IST0106! 5:19 spec.exportTo[1] ~ repeats entry 0`,
		}},
		{"bad name", `  exportTo: [Shop_1, ""]`, []string{
			`IST0106! 5:14 spec.exportTo[0] ~ "Shop_1" is no namespace`,
			`IST0106! 5:22 spec.exportTo[1] ~ "" is no namespace`,
		}},
	}
	for kind, rest := range map[string]string{
		"VirtualService":  "\n  hosts: [a]\n  http: [{route: [{destination: {host: a}}]}]",
		"DestinationRule": "\n  host: a",
		"ServiceEntry":    "\n  hosts: [a]\n  ports: [{number: 80, name: http}]",
	} {
		full := make([]validateCase, len(cases))
		for i, c := range cases {
			full[i] = validateCase{kind + " " + c.name, c.spec + rest, c.want}
		}
		runValidate(t, kind, full)
	}
}
