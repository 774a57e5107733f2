package config

import "testing"

// TestOldSpellings: they are taken as Istio takes them today, and the warning says how.
func TestOldSpellings(t *testing.T) {
	t.Parallel()
	runValidate(t, "VirtualService", []validateCase{
		{"abort.percent", ruleSpec("fault: {abort: {httpStatus: 500, percent: 10}}" + toA), []string{
			`HDL0009? 7:47 spec.http[0].fault.abort.percent ~ ignored: without percentage no request is aborted; write percentage: {value: 10}`,
		}},
		{"abort.percent beside percentage", ruleSpec("fault: {abort: {httpStatus: 500, percent: 10, percentage: {value: 1}}}" + toA), []string{
			`HDL0009? 7:47 spec.http[0].fault.abort.percent ~ ignored: percentage counts`,
		}},
		{"delay.percent", ruleSpec("fault: {delay: {fixedDelay: 1s, percent: 10}}" + toA), []string{
			`HDL0009? 7:46 spec.http[0].fault.delay.percent ~ the old spelling of percentage: {value: 10}; write`,
		}},
		{"delay.percent beside percentage", ruleSpec("fault: {delay: {fixedDelay: 1s, percent: 10, percentage: {value: 1}}}" + toA), []string{
			`HDL0009? 7:46 spec.http[0].fault.delay.percent ~ it is ignored`,
		}},
		{"mirrorPercent", ruleSpec("mirror: {host: a}\nmirrorPercent: 0" + toA), []string{
			`HDL0009? 8:20 spec.http[0].mirrorPercent ~ the old spelling of mirrorPercentage: {value: 0}`,
		}},
		{"mirror_percent", ruleSpec("mirror: {host: a}\nmirror_percent: 5" + toA), []string{
			`HDL0009? 8:21 spec.http[0].mirrorPercent ~ the old spelling of mirrorPercentage: {value: 5}`,
		}},
		{"mirrorPercent beside mirrorPercentage", ruleSpec("mirror: {host: a}\nmirrorPercent: 5\nmirrorPercentage: {value: 1}" + toA), []string{
			`HDL0009? 8:20 spec.http[0].mirrorPercent ~ it is ignored`,
		}},
		{"percent of a fault is no field elsewhere", ruleSpec("fault: {abort: {httpStatus: 500}}" + toA), nil},
	})
	for name, spec := range map[string]string{
		"VirtualService":  ruleSpec("fault: {abort: {httpStatus: 500, percent: 10}}" + toA),
		"DestinationRule": "  host: a\n  trafficPolicy: {outlierDetection: {consecutiveErrors: 5}}",
		"LEAST_CONN":      "  host: a\n  trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}",
	} {
		kind := name
		if name == "LEAST_CONN" {
			kind = "DestinationRule"
		}
		if w := newWorld(t, Options{}, validateText(kind, spec)); w.Status().Refused != nil {
			t.Errorf("%s: %v", name, w.Status().Refused)
		}
		if w := newWorld(t, Options{Strict: true}, validateText(kind, spec)); w.Status().Refused == nil {
			t.Errorf("%s is taken by strict", name)
		}
	}
}

// TestUnspellablePaths: a path that no canonical spelling can be, or begin with, is said with the one that can.
func TestUnspellablePaths(t *testing.T) {
	t.Parallel()
	for uri, hint := range map[string]string{
		`{exact: /a/../b}`:        `write "/b"`,
		`{exact: /a/.}`:           `write "/a/"`,
		`{exact: '/a\b'}`:         `write "/a/b"`,
		`{exact: "/%41"}`:         `write "/A"`,
		`{exact: "/%7Euser"}`:     `write "/~user"`,
		`{exact: "/a b"}`:         `no request has such a path`,
		`{exact: "/%"}`:           `no request has such a path`,
		`{prefix: /a/../b}`:       `write "/b"`,
		`{prefix: /./}`:           `write "/"`,
		`{prefix: "/%2e%2e/"}`:    `write "/"`,
		`{prefix: "/%41"}`:        `write "/A"`,
		`{prefix: "/%zz"}`:        `no request has such a path`,
		`{exact: /}`:              "",
		`{exact: "*"}`:            "",
		`{exact: //a//b}`:         "",
		`{exact: "/a%2Fb"}`:       "",
		`{exact: "/a%2fb"}`:       "",
		`{exact: /.well-known/x}`: "",
		`{prefix: /a/.}`:          "", // of /a/.b
		`{prefix: /a/..}`:         "", // of /a/..b
		`{prefix: "/a%"}`:         "", // of /a%2F
		`{prefix: "/a%2"}`:        "",
		`{prefix: "/a%5"}`:        "", // of /a%5B
		`{prefix: "/a%4"}`:        "", // of /a%40
		`{prefix: "/a%C"}`:        "",
		`{prefix: /a.}`:           "",
		`{regex: "/a/../b"}`:      "",
	} {
		found := validateOne(t, validateText("VirtualService", ruleSpec("match: [{uri: "+uri+"}]"+toA)))
		if hint == "" {
			if len(found) > 0 {
				t.Errorf("%s: %v", uri, found)
			}
			continue
		}
		if len(found) != 1 || found[0].Code != codeDoubtful || found[0].Refused || found[0].Hint != hint {
			t.Errorf("%s: %v, want %q", uri, found, hint)
		}
	}
}
