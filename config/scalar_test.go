package config

import (
	"fmt"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
)

func TestA009Scalars(t *testing.T) {
	t.Parallel()
	fields := map[string]struct{ kind, before, after, path string }{
		"text":   {"VirtualService", "  http: [{name: ", "}]\n", "spec.http[0].name"},
		"bool":   {"VirtualService", "  http: [{match: [{ignoreUriCase: ", "}]}]\n", "spec.http[0].match[0].ignoreUriCase"},
		"uint32": {"VirtualService", "  http: [{match: [{port: ", "}]}]\n", "spec.http[0].match[0].port"},
		"int32":  {"VirtualService", "  http: [{route: [{weight: ", "}]}]\n", "spec.http[0].route[0].weight"},
		"uint64": {"DestinationRule", "  trafficPolicy: {loadBalancer: {consistentHash: {minimumRingSize: ", "}}}\n", "spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize"},
		"double": {"VirtualService", "  http: [{fault: {delay: {percentage: {value: ", "}}}}]\n", "spec.http[0].fault.delay.percentage.value"},
		"bytes":  {"VirtualService", "  http: [{directResponse: {body: {bytes: ", "}}}]\n", "spec.http[0].directResponse.body.bytes"},
		"key":    {"ServiceEntry", "  workloadSelector: {labels: {", ": a}}\n", ""},
	}
	for _, row := range []struct{ field, value, message, hint string }{
		{"text", "on", "", ""},
		{"text", "no", "", ""},
		{"text", "12:34:56", "", ""},
		{"text", "2026-01-02", "", ""},
		{"text", "'0755'", "", ""},
		{"text", "!!str 0755", "", ""},
		{"text", "0755", "expected text, found 0755", `write "0755" in quotes`},
		{"text", "1e3", "found 1e3", `write "1e3" in quotes`},
		{"text", "1.0", "found 1.0", `write "1.0" in quotes`},
		{"text", "true", "found true", `write "true" in quotes`},
		{"text", "~", "found null", "remove the line"},
		{"text", ".inf", "found .inf", "in quotes"},
		{"text", "0x1F", "found 0x1F", "in quotes"},
		{"text", "1_000", "found 1_000", "in quotes"},

		{"bool", "true", "", ""},
		{"bool", "False", "", ""},
		{"bool", "on", `expected true or false, found "on"`, "write true"},
		{"bool", "No", `found "No"`, "write false"},
		{"bool", `"true"`, `found "true"`, "write true, without quotes"},
		{"bool", "1", "found 1", "write true"},
		{"bool", "maybe", `found "maybe"`, "write true or false"},

		{"uint32", "4294967295", "", ""},
		{"uint32", "+5", "", ""},
		{"uint32", "-0", "", ""},
		{"uint32", "4294967296", "4294967296 is out of range", "0 to 4294967295"},
		{"uint32", "-1", "-1 is out of range", "0 to"},
		{"uint32", "99999999999999999999999", "out of range", ""},
		{"uint32", "0755", "found 0755", "plain decimal digits"},
		{"uint32", "0x1F", "found 0x1F", "plain decimal digits"},
		{"uint32", "1_000", "found 1_000", "plain decimal digits"},
		{"uint32", "80.0", "found 80.0", "plain decimal digits"},
		{"uint32", "1e3", "found 1e3", "plain decimal digits"},
		{"uint32", `"80"`, `found "80"`, "write 80 without quotes"},
		{"uint32", "!!str 80", `found "80"`, "write 80 without quotes"},
		{"int32", "-2147483648", "", ""},
		{"int32", "2147483648", "out of range", "-2147483648 to 2147483647"},
		{"uint64", "18446744073709551615", "", ""},
		{"uint64", `"1024"`, "", ""},
		{"uint64", "18446744073709551616", "out of range", "0 to 18446744073709551615"},
		{"uint64", `"01"`, `found "01"`, ""},

		{"double", "100", "", ""},
		{"double", "0.1", "", ""},
		{"double", "1e-3", "", ""},
		{"double", ".5", "", ""},
		{"double", "010", "found 010", "plain decimal"},
		{"double", ".nan", "expected a number, found .nan", ""},
		{"double", "-.inf", "found -.inf", ""},
		{"double", "1e999", "out of range", ""},
		{"double", `"5"`, `found "5"`, "write 5 without quotes"},
		{"double", "half", `found "half"`, ""},

		{"bytes", "aGV5", "", ""},
		{"bytes", "a$", `expected base64, found "a$"`, "illegal base64"},

		{"key", "on", "", ""},
		{"key", "'1'", "", ""},
		{"key", "1", "key: expected text, found 1", `write "1" in quotes`},
		{"key", "true", "key: expected text, found true", `write "true" in quotes`},
	} {
		t.Run(row.field+" "+row.value, func(t *testing.T) {
			f := fields[row.field]
			_, findings := load(servedText(f.kind, f.before+row.value+f.after))
			if row.message == "" {
				expectRefused(t, findings)
				return
			}
			column := len(f.before) + 1
			path := f.path
			if row.field == "key" {
				path = "spec.workloadSelector.labels." + row.value
			}
			if row.value == "~" {
				column -= len("name: ") // of nothing there is no place but its key's
			}
			expectRefused(t, findings, want{at: fmt.Sprintf("5:%d", column), path: path, message: row.message, hint: row.hint})
		})
	}
}

func TestWholeNumbersKeepTheirValue(t *testing.T) {
	t.Parallel()
	resources, findings := load(virtualServiceText("  http: [{match: [{port: +5}, {port: -0}], route: [{weight: -7}]}]\n"))
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	http := resources[0].doc.spec.(*networking.VirtualService).Http[0]
	if http.Match[0].Port != 5 || http.Match[1].Port != 0 || http.Route[0].Weight != -7 {
		t.Errorf("got %v", http)
	}
}
