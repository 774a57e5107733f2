package config

import (
	"strings"
	"testing"
)

const positioned = `# a comment
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: x
spec:
  hosts: ["grün→", &h ratings]
  http:
  - route:
    - destination: {host: *h}
      weight: 10
    timeout:
    retries: {per_try_timeout: "1s"}
  - name: second
`

func TestAt(t *testing.T) {
	t.Parallel()
	resources, _ := Parse("m.yaml", []byte(positioned))
	d := resources[0].doc
	for _, row := range []struct {
		path         []any
		line, column int
		raw          string
	}{
		{nil, 3, 1, "an object"},
		{[]any{"kind"}, 4, 7, `"VirtualService"`},
		{[]any{"metadata"}, 5, 1, "an object"},
		{[]any{"metadata", "labels"}, 5, 1, "nothing"},
		{[]any{"metadata", "name", "deeper"}, 6, 9, "nothing"},
		{[]any{"spec", "hosts"}, 8, 3, "a list"},
		{[]any{"spec", "hosts", 0}, 8, 11, `"grün→"`},
		{[]any{"spec", "hosts", 1}, 8, 23, `"ratings"`}, // column 20 in letters
		{[]any{"spec", "hosts", 2}, 8, 3, "nothing"},
		{[]any{"spec", "hosts", -1}, 8, 3, "nothing"},
		{[]any{"spec", "http", 0}, 10, 5, "an object"},
		{[]any{"spec", "http", 0, "route", 0, "weight"}, 12, 15, "10"},
		{[]any{"spec", "http", 0, "route", 0, "destination", "host"}, 11, 27, `"ratings"`},
		{[]any{"spec", "http", 0, "route", 0, "destination", "subset"}, 11, 7, "nothing"},
		{[]any{"spec", "http", 0, "timeout"}, 13, 5, "null"},
		{[]any{"spec", "http", 0, "retries", "perTryTimeout"}, 14, 32, `"1s"`},
		{[]any{"spec", "http", 1, "name"}, 15, 11, `"second"`},
		{[]any{"spec", "http", "name"}, 9, 3, "nothing"},
		{[]any{"status"}, 3, 1, "nothing"},
	} {
		line, column := d.at(row.path...)
		if line != row.line || column != row.column {
			t.Errorf("%s is at %d:%d, want %d:%d", pathString(row.path), line, column, row.line, row.column)
		}
		if raw := d.rawAt(row.path...); raw != row.raw {
			t.Errorf("%s is %s, want %s", pathString(row.path), raw, row.raw)
		}
	}
}

func TestFindingNamesTheDocument(t *testing.T) {
	t.Parallel()
	resources, _ := Parse("m.yaml", []byte(positioned))
	got := resources[0].doc.finding(Warning, "IST0101", false, []any{"spec", "http", 1, "name"}, "m", "h")
	want := Finding{Code: "IST0101", Level: Warning, File: "m.yaml", Document: 1, Line: 15, Column: 11,
		Kind: "VirtualService", Namespace: "default", Name: "x", Path: "spec.http[1].name", Message: "m", Hint: "h"}
	if got != want {
		t.Errorf("got %+v", got)
	}
}

func TestPathString(t *testing.T) {
	t.Parallel()
	for want, path := range map[string][]any{
		"":                                  nil,
		"spec.http[0].timeout":              {"spec", "http", 0, "timeout"},
		`metadata.labels["app.kubernetes"]`: {"metadata", "labels", "app.kubernetes"},
		"headers.end-user.exact":            {"headers", "end-user", "exact"},
		`[""]`:                              {""},
		`a["b\nc"][1][2]`:                   {"a", "b\nc", 1, 2},
	} {
		if got := pathString(path); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestMessagesRepeatLittle(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 1000)
	if got := quoted(long); got != `"`+strings.Repeat("ü", clipLength/2)+`"…` {
		t.Errorf("got %s", got)
	}
	if got := clip("a\n\x1b[31m" + long); len(got) > 2*clipLength || strings.ContainsAny(got, "\n\x1b") {
		t.Errorf("got %s", got)
	}
	if got := clip("ü"); got != "ü" {
		t.Errorf("got %s", got)
	}
}
