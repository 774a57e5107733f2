package config

import (
	"strings"
	"testing"
	"time"
)

var matchCases = []validateCase{
	{"A-025 unbalanced", ruleSpec("match:\n- uri: {regex: \"/a(\"}" + toA), []string{
		`IST0106! 8:20 spec.http[0].match[0].uri.regex ~ "/a(" at byte 0: missing closing )`,
	}},
	{"A-025 lookahead", ruleSpec("match:\n- headers: {x-a: {regex: \"ab(?!c)\"}}" + toA), []string{
		`IST0106! 8:30 spec.http[0].match[0].headers.x-a.regex ~ at byte 2: invalid or unsupported Perl syntax "(?!"`,
	}},
	{"A-025 backreference", ruleSpec("match:\n- queryParams: {q: {regex: '(a)\\1'}}" + toA), []string{
		`IST0106! 8:32 spec.http[0].match[0].queryParams.q.regex ~ at byte 3: invalid escape sequence`,
	}},
	{"A-025 repetition of repetition", ruleSpec("match:\n- method: {regex: '(x{1000}){1000}'}" + toA), []string{
		`IST0106! 8:23 spec.http[0].match[0].method.regex ~ invalid repeat count`,
	}},
	{"A-025 length", ruleSpec("match:\n- authority: {regex: " + strings.Repeat("a", 1025) + "}" + toA), []string{
		`IST0106! 8:26 spec.http[0].match[0].authority.regex ~ at byte 1024: has 1025 bytes, more than the 1024 allowed`,
	}},
	{"regex empty and star where it is no presence", ruleSpec("match:\n- uri: {regex: ''}\n  scheme: {regex: '*'}\n  headers: {x-a: {regex: ''}}\n  withoutHeaders: {x-a: {regex: '['}}" + toA), []string{
		`IST0106! 8:20 spec.http[0].match[0].uri.regex ~ "" at byte 0: is empty`,
		`IST0106! 9:23 spec.http[0].match[0].scheme.regex ~ missing argument to repetition operator`,
		`IST0106! 10:30 spec.http[0].match[0].headers.x-a.regex ~ is empty`,
		`IST0106! 11:37 spec.http[0].match[0].withoutHeaders.x-a.regex ~ missing closing ]`,
	}},
	{"paths that never match", ruleSpec(`
match:
- uri: {prefix: static}
- uri: {exact: "a?b"}
- uri: {exact: "/a?b=c"}
- uri: {prefix: ""}
  port: 1
- uri: {exact: "*"}
route: [{destination: {host: a}}]`), []string{
		`HDL0009? 8:21 spec.http[0].match[0].uri.prefix ~ "static" can never match: paths begin with "/"; write "/static"`,
		`HDL0009? 9:20 spec.http[0].match[1].uri.exact ~ "a?b" can never match`,
		`HDL0009? 10:20 spec.http[0].match[2].uri.exact ~ the query is not part of the path`,
		`HDL0009? 11:21 spec.http[0].match[3].uri.prefix ~ an empty prefix matches every value`,
	}},
	{"header names", ruleSpec(`
match:
- headers:
    "": {exact: a}
    "a b": {exact: a}
    "a:": {exact: a}
    ":path": {exact: a}
    "@request.auth.claims[sub]": {exact: a}
    URI: {exact: a}
  withoutHeaders:
    "x\r\n": {}
    authority: {}
  queryParams:
    "": {}
route: [{destination: {host: a}}]`), []string{
		`IST0106! 9:9 spec.http[0].match[0].headers[""] ~ "" is no name of a header`,
		`IST0106! 10:9 spec.http[0].match[0].headers["a b"] ~ "a b" is no name of a header`,
		`IST0106! 11:9 spec.http[0].match[0].headers["a:"] ~ "a:" is no name of a header`,
		`IST0106! 12:9 spec.http[0].match[0].headers[":path"] ~ ":path" is no header that can be matched`,
		`HDL0008! 13:9 spec.http[0].match[0].headers["@request.auth.claims[sub]"] ~ claims of a token would not be looked at`,
		`HDL0009? 14:9 spec.http[0].match[0].headers.URI ~ "URI" is ignored as the name of a header`,
		`IST0106! 16:9 spec.http[0].match[0].withoutHeaders["x\r\n"] ~ is no name of a header`,
		`HDL0009? 17:9 spec.http[0].match[0].withoutHeaders.authority ~ "authority" is ignored`,
		`IST0106! 19:9 spec.http[0].match[0].queryParams[""] ~ is no query parameter`,
	}},
	{"callers", ruleSpec(`
match:
- port: 65536
  sourceLabels: {"-a": b, a: "*", a/b/c: d, X_/a: b}
  sourceNamespace: Shop
  gateways: [""]
  statPrefix: x
route: [{destination: {host: a}}]`), []string{
		`IST0106! 8:13 spec.http[0].match[0].port ~ 65536 is no port`,
		`IST0106! 9:22 spec.http[0].match[0].sourceLabels.-a ~ "-a" is no key of a label`,
		`IST0106! 9:34 spec.http[0].match[0].sourceLabels.a ~ "*" is no value of a label`,
		`IST0106! 9:39 spec.http[0].match[0].sourceLabels["a/b/c"] ~ "a/b/c" is no key of a label`,
		`IST0106! 9:49 spec.http[0].match[0].sourceLabels["X_/a"] ~ is no key of a label`,
		`IST0106! 10:24 spec.http[0].match[0].sourceNamespace ~ "Shop" is no namespace`,
		`IST0106! 11:18 spec.http[0].match[0].gateways[0] ~ is no gateway`,
		`HDL0008? 12:19 spec.http[0].match[0].statPrefix ~ without effect, not built in this version yet: statPrefix`,
	}},
	{"A-026 after a rule without a match", `
  hosts: [a]
  http:
  - route: [{destination: {host: a}}]
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: b}}]
  - route: [{destination: {host: c}}]`, []string{
		`IST0130? 8:5 spec.http[1] ~ never reached: http[0] (a.yaml:7) takes every request`,
		`IST0130? 10:5 spec.http[2] ~ never reached: http[0] (a.yaml:7) takes every request`,
	}},
	{"A-026 after a match of everything", `
  hosts: [a]
  http:
  - match: [{uri: {exact: /a}}, {uri: {prefix: /}}]
    route: [{destination: {host: a}}]
  - match: [{port: 80}]
    route: [{destination: {host: b}}]`, []string{
		`IST0130? 9:5 spec.http[1] ~ never reached: http[0] (a.yaml:7) takes every request`,
	}},
	{"A-026 narrower than everything", `
  hosts: [a]
  http:
  - match: [{uri: {prefix: /}, headers: {a: {}}}, {uri: {prefix: /}, port: 80}, {gateways: [mesh]}, {sourceLabels: {a: b}}]
    route: [{destination: {host: a}}]
  - route: [{destination: {host: b}}]`, nil},
	{"A-026 the same match in two rules", `
  hosts: [a]
  http:
  - match:
    - headers: {x: {exact: a}, y: {}}
      name: one
    route: [{destination: {host: a}}]
  - match:
    - name: two
      headers: {y: {}, x: {exact: a}}
    route: [{destination: {host: b}}]`, []string{
		`IST0130? 11:5 spec.http[1] ~ never reached: http[1].match[0] is the same as http[0].match[0] (a.yaml:8)`,
	}},
	{"A-026 one match of several again", `
  hosts: [a]
  http:
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: a}}]
  - match:
    - uri: {prefix: /b}
    - uri: {prefix: /a}
    - uri: {prefix: /b}
    route: [{destination: {host: b}}]`, []string{
		`IST0131? 11:7 spec.http[1].match[1] ~ http[1].match[1] is the same as http[0].match[0] (a.yaml:7)`,
		`IST0131? 12:7 spec.http[1].match[2] ~ http[1].match[2] is the same as http[1].match[0] (a.yaml:10)`,
	}},
}

func TestValidateMatches(t *testing.T) {
	t.Parallel()
	runValidate(t, "VirtualService", matchCases)
}

// the largest expressions that are refused for their size are refused quickly.
func TestValidateRegexTime(t *testing.T) {
	t.Parallel()
	text := validateText("VirtualService", ruleSpec("match:\n- uri: {regex: '"+strings.Repeat("(", 500)+strings.Repeat("){999}", 80)+"'}"+toA))
	start := time.Now()
	if found := validateOne(t, text); len(found) != 1 || !found[0].Refused {
		t.Errorf("found %v", found)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
}
