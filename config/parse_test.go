package config

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

const minimal = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: reviews\nspec:\n  hosts: [reviews]\n"

func TestA001NothingIsNoError(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "blank": " \n\n", "comments": "# a\n  # b\n", "marker": "---", "markers": "---\n---\n...\n--- # c\n",
		"version directive": "%YAML 1.2\n---\n", "byte order mark": "\uFEFF", "CRLF": "---\r\n# x\r\n---\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			resources, findings := Parse("m.yaml", []byte(text))
			if len(resources) != 0 || len(findings) != 0 {
				t.Errorf("got %v, %v", resources, findings)
			}
		})
	}
}

func TestA001DocumentsAreFoundWhereTheyStand(t *testing.T) {
	t.Parallel()
	one := func(name string) string { return strings.Replace(minimal, "reviews", name, 1) }
	for _, row := range []struct {
		name, text string
		lines      []int // on which each document begins
	}{
		{"bare", one("a"), []int{1}},
		{"two", one("a") + "---\n" + one("b"), []int{1, 8}},
		{"trailing marker", "---\n" + one("a") + "---\n", []int{2}},
		{"empty ones do not count", "# x\n---\n---\n\n" + one("a") + "---\n# y\n---\n" + one("b"), []int{5, 14}},
		{"comment on the marker", "--- # first\n" + one("a") + "---\t# second\n" + one("b"), []int{2, 9}},
		{"end marker", one("a") + "...\n" + one("b") + "... # end\n", []int{1, 8}},
		{"content on the marker", "--- {apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: a}, spec: {}}\n", []int{1}},
		{"directive", "%YAML 1.2\n---\n" + one("a"), []int{3}},
		{"CRLF", strings.ReplaceAll("---\n"+one("a")+"---\n"+one("b"), "\n", "\r\n"), []int{2, 9}},
		{"byte order mark", "\uFEFF" + one("a"), []int{1}},
		{"longer dashes are text", one("a") + "#\n", []int{1}},
		{"JSON", `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"a"},"spec":{"hosts":["r"]}}`, []int{1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			resources, findings := load(row.text)
			if len(findings) > 0 || len(resources) != len(row.lines) {
				t.Fatalf("got %d documents, %v", len(resources), findings)
			}
			for i, r := range resources {
				want := Origin{File: "m.yaml", Document: i + 1, Line: row.lines[i]}
				if r.Origin != want || r.Key != (Key{"VirtualService", "default", string(rune('a' + i))}) {
					t.Errorf("document %d: %v at %+v", i, r.Key, r.Origin)
				}
				if line, _ := r.doc.at("apiVersion"); line != want.Line {
					t.Errorf("apiVersion is on line %d", line)
				}
			}
		})
	}
}

func TestSyntaxIsRefused(t *testing.T) {
	t.Parallel()
	runRefusals(t, []refusedText{
		{"A-002 cut in a list", minimal[:len(minimal)-3], []want{{at: "6:10", message: "cut off", hint: "still open"}}},
		{"A-002 cut in quotes", "apiVersion: v1\nkind: \"Virt", []want{{at: "2:7", message: "unexpected end of stream"}}},
		{"A-002 cut in a key", "apiVersion: v1\nki", []want{{at: "2:1", message: "could not find expected ':'"}}},
		{"A-003 tab", "apiVersion: v1\nkind: X\nmetadata:\n\tname: x\n", []want{{at: "4:1", message: "indented with a tab", hint: "spaces"}}},
		{"A-003 tab after spaces", "apiVersion: v1\nmetadata:\n  \tname: x\nkind: X\n", []want{{at: "3:3", message: "indented with a tab"}}},
		{"two JSON objects", "{\"a\": 1}\n{\"b\": 2}\n", []want{{at: "2:7", message: "<document start>"}}},
		{"undefined alias", "a: *x\n", []want{{at: "1:4", message: "unknown anchor"}}},
		{"control character", "a: 1\nb: \x01\n", []want{{at: "2:4", message: "control characters"}}},
		{"scalar", "hello\n", []want{{at: "1:1", message: `expected an object, found "hello"`, hint: "apiVersion"}}},
		{"list", "\n- a\n", []want{{at: "2:1", message: "found a list"}}},
		{"null", "--- ~\n", []want{{at: "1:5", message: "found null"}}},
	})
}

func TestA004DuplicateKeys(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range 40 {
		many.WriteString("    k" + string(rune('A'+i)) + ": x\n")
	}
	runRefusals(t, []refusedText{
		{"top level", "kind: VirtualService\n" + minimal,
			[]want{{at: "3:1", path: "kind", message: `key "kind" is written twice, on lines 1 and 3`, hint: "keep one"}}},
		{"nested", virtualServiceText("  http:\n  - timeout: 1s\n    name: a\n    timeout: 2s\n"),
			[]want{{at: "8:5", path: "spec.http[0].timeout", message: "on lines 6 and 8"}}},
		{"two of them", virtualServiceText("  hosts: [a]\n  hosts: [b]\n  http: []\n  hosts: [c]\n"),
			[]want{{at: "6:3", path: "spec.hosts", message: "lines 5 and 6"}, {at: "8:3", path: "spec.hosts", message: "lines 5 and 8"}}},
		{"among many", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: x\n  labels:\n" + many.String() + "    kA: y\n",
			[]want{{at: "46:5", path: "metadata.labels.kA", message: "lines 6 and 46"}}},
		{"quoted and plain", virtualServiceText("  hosts: [a]\n  \"hosts\": [b]\n"), []want{{at: "6:3", path: "spec.hosts", message: "twice"}}},
		{"after wide letters", virtualServiceText("  http: [{name: \"ü→\", name: x}]\n"),
			[]want{{at: "5:26", path: "spec.http[0].name", message: "on lines 5 and 5"}}},
	})
}

func TestA008Encoding(t *testing.T) {
	t.Parallel()
	runRefusals(t, []refusedText{
		{"NUL", "a: b\nc: \x00\n", []want{{at: "2:4", message: "NUL at byte 8", hint: "UTF-8"}}},
		{"UTF-16 little endian", "\xff\xfea\x00", []want{{at: "1:1", message: "UTF-16"}}},
		{"UTF-16 big endian", "\xfe\xff\x00a", []want{{at: "1:1", message: "UTF-16"}}},
		{"invalid", "a: ü\nb: \xc3(\n", []want{{at: "2:4", message: "invalid UTF-8 at byte 9 (0xc3)"}}},
		{"cut rune", "a: \xe2\x82", []want{{at: "1:4", message: "invalid UTF-8 at byte 3"}}},
		{"carriage return", "a: b\rc: d\n", []want{{at: "1:5", message: "carriage return", hint: `\r\n`}}},
		{"line separator", "a: b\nc: \"\u2028\"\n", []want{{at: "2:5", message: "U+2028 at byte 9", hint: `"\u2028"`}}},
	})
}

func TestA010OneBadDocument(t *testing.T) {
	t.Parallel()
	text := minimal + "---\na: [b\n---\n" + strings.ReplaceAll(minimal, "hosts", "hostz") + "---\n" + strings.Replace(minimal, "reviews", "z", 1)
	resources, findings := load(text)
	expectRefused(t, findings,
		want{at: "8:4", message: "cannot parse YAML"},
		want{at: "15:3", path: "spec.hostz", message: "unknown field"})
	if len(findings) == 2 && (findings[0].Document != 2 || findings[1].Document != 3) {
		t.Errorf("documents %d and %d", findings[0].Document, findings[1].Document)
	}
	if len(resources) != 3 || resources[2].Origin.Document != 4 {
		t.Errorf("the others are lost: %v", resources)
	}
}

func TestA012KindsAndVersions(t *testing.T) {
	t.Parallel()
	doc := func(apiVersion, kind string) string {
		return "apiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata: {name: x}\nspec: {}\n"
	}
	runRefusals(t, []refusedText{
		{"misspelt kind", doc("networking.istio.io/v1", "VirtualServise"),
			[]want{{at: "2:7", path: "kind", message: `unknown kind "VirtualServise"`, hint: `did you mean "VirtualService"? expected one of [AuthorizationPolicy DestinationRule`}}},
		{"kind of ours unknown", doc("heddle.dev/v1", "RateLimits"), []want{{at: "2:7", path: "kind", message: "unknown kind", hint: "expected one of"}}},
		{"old version", doc("networking.istio.io/v1alpha2", "VirtualService"),
			[]want{{at: "1:13", path: "apiVersion", message: `unknown apiVersion "networking.istio.io/v1alpha2" of VirtualService`,
				hint: "expected one of [networking.istio.io/v1 networking.istio.io/v1alpha3 networking.istio.io/v1beta1]"}}},
		{"wrong group", doc("security.istio.io/v1", "VirtualService"), []want{{at: "1:13", path: "apiVersion", message: "of VirtualService", hint: "networking.istio.io/v1"}}},
		{"no group", doc("v1", "AuthorizationPolicy"), []want{{at: "1:13", path: "apiVersion", hint: "security.istio.io/v1"}}},
		{"Service of no such version", doc("v2", "Service"), []want{{at: "1:13", path: "apiVersion", message: `unknown apiVersion "v2" of Service`, hint: `did you mean "v1"?`}}},
		{"EndpointSlice of old", doc("discovery.k8s.io/v1beta1", "EndpointSlice"), []want{{at: "1:13", path: "apiVersion", message: `"discovery.k8s.io/v1beta1" of EndpointSlice`, hint: "[discovery.k8s.io/v1]"}}},
		{"Service of Istio's group", doc("networking.istio.io/v1", "Service"), []want{{at: "1:13", path: "apiVersion", hint: "[v1]"}}},
		{"misspelt group", doc("security.itsio.io/v1", "AuthorizationPolicy"), []want{{at: "1:13", path: "apiVersion", hint: "security.istio.io/v1"}}},
		{"version Istio has for others", doc("networking.istio.io/v1", "EnvoyFilter"), []want{{at: "1:13", path: "apiVersion", hint: "[networking.istio.io/v1alpha3]"}}},
		{"nothing", "metadata: {name: x}\n", []want{
			{at: "1:1", path: "apiVersion", message: "apiVersion is missing"}, {at: "1:1", path: "kind", message: "kind is missing"}}},
		{"kind null", "apiVersion: v1\nkind:\n", []want{{at: "2:1", path: "kind", message: "found null"}}},
		{"kind empty", "apiVersion: v1\nkind: ''\n", []want{{at: "2:7", path: "kind", message: "kind is empty"}}},
		{"apiVersion a number", "apiVersion: 1\nkind: Service\n", []want{{at: "1:13", path: "apiVersion", message: "found 1", hint: `"1" in quotes`}}},
	})
}

func TestA012AllVersionsOfAKind(t *testing.T) {
	t.Parallel()
	for kind, info := range kinds {
		for _, v := range info.apiVersions() {
			resources, findings := Parse("m.yaml", []byte("apiVersion: "+v+"\nkind: "+kind+"\nmetadata: {name: x, namespace: n}\n"))
			if len(findings) > 0 || len(resources) != 1 || resources[0].Key != (Key{kind, "n", "x"}) || resources[0].doc.apiVersion != v {
				t.Errorf("%s %s: %v %v", v, kind, resources, findings)
			}
		}
	}
}

func TestForeignDocumentsAreSkipped(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ text, message string }{
		{"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n", "Deployment default/x skipped: not a mesh document"},
		{"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x, namespace: n, nonsense: true}\n", "ServiceAccount n/x skipped: not a mesh document"},
		{"apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: x}\n", "Service default/x skipped: not a mesh document"},
		{"apiVersion: v1\nkind: Endpoints\nmetadata: {name: x}\n", "Endpoints default/x skipped: not a mesh document"},
		{"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\n", "Gateway default/g skipped"},
		{"apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: g}\n", "AuthorizationPolicy default/g skipped"},
		{"apiVersion: example.com/v1\nkind: X\nspec: {<<: {a: b}}\n", "X skipped"},
		{"apiVersion: example.com/v1\nkind: \"X\\nY\"\n", `X\nY skipped`},
	} {
		resources, findings := Parse("m.yaml", []byte(row.text))
		if len(resources) != 0 || len(findings) != 1 {
			t.Errorf("%s: got %v, %v", row.message, resources, findings)
			continue
		}
		f := findings[0]
		if f.Level != Info || f.Code != codeSkipped || f.Refused || f.Line != 2 || !strings.HasPrefix(f.Message, row.message) {
			t.Errorf("got %s", f)
		}
	}
}

func TestA017Metadata(t *testing.T) {
	t.Parallel()
	doc := func(metadata string) string {
		return "apiVersion: networking.istio.io/v1\nkind: VirtualService\n" + metadata + "spec: {hosts: [a]}\n"
	}
	runRefusals(t, []refusedText{
		{"none", doc(""), []want{{at: "1:1", path: "metadata", message: "metadata is missing"}}},
		{"null", doc("metadata:\n"), []want{{at: "3:1", path: "metadata", message: "expected an object, found null"}}},
		{"list", doc("metadata: [a]\n"), []want{{at: "3:1", path: "metadata", message: "found a list"}}},
		{"no name", doc("metadata:\n  namespace: a\n"), []want{{at: "3:1", path: "metadata.name", message: "metadata.name is missing"}}},
		{"empty name", doc("metadata:\n  name: ''\n"), []want{{at: "4:9", path: "metadata.name", message: "empty"}}},
		{"null name", doc("metadata:\n  name:\n"), []want{{at: "4:3", path: "metadata.name", message: "found null"}}},
		{"number", doc("metadata:\n  name: 10\n"), []want{{at: "4:9", path: "metadata.name", message: "found 10", hint: `"10" in quotes`}}},
		{"upper case", doc("metadata:\n  name: Reviews\n"), []want{{at: "4:9", path: "metadata.name", message: `invalid name "Reviews"`, hint: "lower case"}}},
		{"long", doc("metadata:\n  name: " + strings.Repeat("a", 254) + "\n"), []want{{at: "4:9", path: "metadata.name", message: "invalid name", hint: "253"}}},
		{"namespace", doc("metadata:\n  name: a\n  namespace: a.b\n"), []want{{at: "5:14", path: "metadata.namespace", message: "invalid name", hint: "63"}}},
		{"misspelt field", doc("metadata:\n  name: a\n  lables: {}\n"),
			[]want{{at: "5:3", path: "metadata.lables", message: `unknown field "lables"`, hint: `did you mean "labels"?`}}},
		{"label value", doc("metadata:\n  name: a\n  labels:\n    version: 1.0\n"),
			[]want{{at: "6:14", path: "metadata.labels.version", message: "found 1.0", hint: `write "1.0" in quotes`}}},
		{"label key", doc("metadata:\n  name: a\n  labels:\n    1: a\n"),
			[]want{{at: "6:5", path: "metadata.labels.1", message: "key: expected text, found 1", hint: `"1" in quotes`}}},
		{"annotations null", doc("metadata:\n  name: a\n  annotations:\n"), []want{{at: "5:3", path: "metadata.annotations", message: "found null"}}},
		{"fields of a nameless document", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {}\nspec: {host: [a]}\n",
			[]want{{at: "3:1", path: "metadata.name"}, {at: "4:8", path: "spec.host", message: "unknown field"}}},
	})
}

func TestMetadataOfAClusterIsAccepted(t *testing.T) {
	t.Parallel()
	resources, findings := load(`apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews.v1
  namespace: ""
  uid: 7d0
  resourceVersion: "12"
  generation: 3
  creationTimestamp: 2026-01-02T03:04:05Z
  managedFields: [{fieldsV1: {"f:spec": {".": {}}}}]
  labels: {app: on, "1": "1", day: 2026-01-02}
  annotations: {note: "a: b"}
spec: {}
status: {anything: [1]}
`)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	d := resources[0].doc
	if d.key != (Key{"VirtualService", "default", "reviews.v1"}) || d.annotations["note"] != "a: b" ||
		d.labels["app"] != "on" || d.labels["1"] != "1" || d.labels["day"] != "2026-01-02" {
		t.Errorf("got %v %v %v", d.key, d.labels, d.annotations)
	}
	if want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC); !d.created.Equal(want) || !resources[0].Created.Equal(want) {
		t.Errorf("created %v, %v", d.created, resources[0].Created)
	}
}

const list = `apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {name: a}
  spec: {hosts: [a]}
- apiVersion: v1
  kind: Secret
  metadata: {name: b}
- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {name: c}
  spec: {hots: [a]}
`

func TestListsAreTakenApart(t *testing.T) {
	t.Parallel()
	resources, findings := load("---\n" + list)
	if len(resources) != 2 || resources[0].Key.Name != "a" || resources[1].Key.Name != "c" || resources[0].Version == resources[1].Version {
		t.Errorf("got %v", resources)
	}
	if len(findings) != 2 || findings[0].Message != "Secret default/b skipped: not a mesh document" || findings[0].Line != 11 {
		t.Fatalf("got %v", findings)
	}
	expectRefused(t, findings[1:], want{at: "16:10", path: "spec.hots", message: "unknown field", hint: `"hosts"`})
	runRefusals(t, []refusedText{
		{"no items", "apiVersion: v1\nkind: List\n", []want{{at: "1:1", path: "items", message: "missing"}}},
		{"items null", "apiVersion: v1\nkind: List\nitems:\n", []want{{at: "3:1", path: "items", message: "found null"}}},
		{"null item", "apiVersion: v1\nkind: List\nitems:\n- null\n", []want{{at: "4:3", path: "items[0]", message: "found null"}}},
		{"nested", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: []}]\n", []want{{at: "3:9", path: "items[0]", message: "List within a List"}}},
		{"itself", "apiVersion: v1\nkind: List\nitems: &a [*a]\n", []want{{at: "3:12", path: "items[0]", message: "found a list"}}},
	})
}

func TestVersionTellsContentAndPlace(t *testing.T) {
	t.Parallel()
	version := func(file, text string) string {
		resources, _ := Parse(file, []byte(text))
		return resources[0].Version
	}
	first := version("a", minimal)
	if len(first) != 16 || version("a", minimal) != first || version("a", "# one line more\n---\n# x\n"+minimal) == first ||
		version("a", strings.Replace(minimal, "[reviews]", "[ratings]", 1)) == first || version("b", minimal) == first {
		t.Errorf("%q does not stand for the text and its place", first)
	}
	if got := version("a", minimal+"---\nkind: [\n"); got != first {
		t.Errorf("what follows a document changed its version")
	}
}

func TestHandMadeResource(t *testing.T) {
	t.Parallel()
	key := Key{"VirtualService", "shop", "reviews"}
	t.Run("JSON", func(t *testing.T) {
		r := Resource{Key: key, Version: "7", Body: []byte(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"reviews"},"spec":{"hosts":["r"]}}`)}
		d, findings := r.parsed()
		if len(findings) > 0 || d == nil || d.key != key || r.Version != "7" || len(d.decode()) > 0 {
			t.Fatalf("got %+v, %v", d, findings)
		}
		if again, _ := r.parsed(); again != d {
			t.Error("parsed twice")
		}
	})
	t.Run("key from the body", func(t *testing.T) {
		r := Resource{Body: []byte(minimal), Origin: Origin{File: "kube", Document: 4, Line: 11}}
		d, findings := r.parsed()
		if len(findings) > 0 || r.Key != (Key{"VirtualService", "default", "reviews"}) || r.Version == "" || d.origin != r.Origin {
			t.Fatalf("got %v, %v", r, findings)
		}
		if line, column := d.at("spec", "hosts", 0); line != 16 || column != 11 {
			t.Errorf("at %d:%d", line, column)
		}
	})
	t.Run("body of a list", func(t *testing.T) {
		from, _ := Parse("m.yaml", []byte(list))
		r := from[1]
		r.doc = nil
		if d, _ := r.parsed(); d == nil || d.key.Name != "c" {
			t.Errorf("got %+v", d)
		}
	})
	for name, body := range map[string]string{"another": minimal, "empty": "", "syntax": "a: [", "two": minimal + "---\n" + minimal} {
		t.Run(name, func(t *testing.T) {
			r := Resource{Key: key, Body: []byte(body)}
			if name == "another" {
				r.Key.Name = "ratings"
			}
			if name == "two" {
				r.Key = Key{}
			}
			d, findings := r.parsed()
			if d != nil || len(findings) != 1 || !findings[0].Refused || findings[0].Line < 1 || findings[0].Column < 1 {
				t.Errorf("got %v, %v", d, findings)
			}
		})
	}
}

func TestParseKeepsTheText(t *testing.T) {
	t.Parallel()
	resources, _ := Parse("m.yaml", []byte("# licence\n---\n"+minimal+"---\n"))
	if !bytes.Equal(resources[0].Body, []byte(minimal)) {
		t.Errorf("body %q", resources[0].Body)
	}
}
