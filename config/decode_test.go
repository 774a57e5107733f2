package config

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	resources, findings := load(`apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: x}
spec:
  hosts: &hosts [reviews, on, 12:34:56, 2026-01-02]
  gateways: *hosts
  http:
  - match:
    - uri: {prefix: /a}
      headers: {end-user: {}, x: {exact: !!str 5}}
      port: 80
      ignoreUriCase: true
    timeout: 1h30m
    retries: {attempts: -1, per_try_timeout: 0.5s, retryIgnorePreviousHosts: false}
    fault:
      delay: {percentage: {value: 100}, fixedDelay: 5ms}
      abort: {percentage: {value: 1.5e-1}, httpStatus: 503}
    directResponse: {status: 200, body: {bytes: aGV5}}
    redirect: {derivePort: FROM_REQUEST_PORT}
    route:
    - {destination: {host: r, port: {number: 9080}}, weight: 0}
`)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	got := resources[0].doc.spec.(*networking.VirtualService)
	var want networking.VirtualService
	if err := protojson.Unmarshal([]byte(`{
		"hosts": ["reviews", "on", "12:34:56", "2026-01-02"], "gateways": ["reviews", "on", "12:34:56", "2026-01-02"],
		"http": [{
			"match": [{"uri": {"prefix": "/a"}, "headers": {"end-user": {}, "x": {"exact": "5"}}, "port": 80, "ignoreUriCase": true}],
			"timeout": "5400s",
			"retries": {"attempts": -1, "perTryTimeout": "0.5s", "retryIgnorePreviousHosts": false},
			"fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "0.005s"}, "abort": {"percentage": {"value": 0.15}, "httpStatus": 503}},
			"directResponse": {"status": 200, "body": {"bytes": "aGV5"}},
			"redirect": {"derivePort": "FROM_REQUEST_PORT"},
			"route": [{"destination": {"host": "r", "port": {"number": 9080}}, "weight": 0}]
		}]}`), &want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, &want) {
		t.Errorf("got  %v\nwant %v", got, &want)
	}
	if again := resources[0].doc.decode(); again != nil || resources[0].doc.spec != proto.Message(got) {
		t.Errorf("decoded twice: %v", again)
	}
}

// TestDecodeAgreesWithProtojson decodes what protojson writes of every field of the served kinds.
func TestDecodeAgreesWithProtojson(t *testing.T) {
	t.Parallel()
	for kind, info := range kinds {
		if info.new == nil {
			continue
		}
		want := info.new()
		fill(want.ProtoReflect(), 0)
		text, err := protojson.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		resources, findings := load(`{"apiVersion": "` + info.apiVersions()[0] + `", "kind": "` + kind + `", "metadata": {"name": "x"}, "spec": ` + string(text) + `}`)
		if len(findings) > 0 {
			t.Errorf("%s: %v", kind, findings)
			continue
		}
		if got := resources[0].doc.spec.(proto.Message); !proto.Equal(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", kind, got, want)
		}
	}
}

// fill sets every field of m to something, the last of each choice.
func fill(m protoreflect.Message, depth int) {
	if depth > 8 {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case fd.IsMap():
			entries := m.Mutable(fd).Map()
			entries.Set(protoreflect.ValueOfString("k").MapKey(), sample(fd.MapValue(), entries.NewValue(), depth))
		case fd.IsList():
			l := m.Mutable(fd).List()
			l.Append(sample(fd, l.NewElement(), depth))
		default:
			m.Set(fd, sample(fd, m.NewField(fd), depth))
		}
	}
}

func sample(fd protoreflect.FieldDescriptor, blank protoreflect.Value, depth int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		if fd.Message().FullName() == "google.protobuf.Struct" {
			return blank // nothing in it is kept
		}
		fill(blank.Message(), depth+1)
		return blank
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("no: 1.0\t\u00fc")
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(fd.Enum().Values().Get(fd.Enum().Values().Len() - 1).Number())
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1e-9)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, 255})
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(5)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(5)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(5)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1 << 63)
	}
	panic("a kind that decode does not know: " + fd.Kind().String())
}

func TestA005WrongTypes(t *testing.T) {
	t.Parallel()
	runRefusals(t, []refusedText{
		{"text for a number", virtualServiceText("  http:\n  - match:\n    - port: \"eighty\"\n"),
			[]want{{at: "7:13", path: "spec.http[0].match[0].port", message: `expected a whole number, found "eighty"`, hint: "decimal digits"}}},
		{"list for an object", virtualServiceText("  http:\n  - retries: [3]\n"),
			[]want{{at: "6:5", path: "spec.http[0].retries", message: "expected an object, found a list"}}},
		{"object for a list", virtualServiceText("  http:\n    route: {}\n"),
			[]want{{at: "5:3", path: "spec.http", message: "expected a list, found an object", hint: `"- "`}}},
		{"text for a list", virtualServiceText("  hosts: reviews\n"), []want{{at: "5:10", path: "spec.hosts", message: `expected a list, found "reviews"`}}},
		{"object for text", virtualServiceText("  hosts:\n  - {a: b}\n"), []want{{at: "6:5", path: "spec.hosts[0]", message: "expected text, found an object"}}},
		{"text for an object", virtualServiceText("  http: [x]\n"), []want{{at: "5:10", path: "spec.http[0]", message: `expected an object, found "x"`}}},
		{"spec is a list", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec: []\n", []want{{at: "4:1", path: "spec", message: "found a list"}}},
		{"all of them", virtualServiceText("  hosts: a\n  http:\n  - timeout: ten\n    name: [b]\n  - retries: {attempts: x}\n"), []want{
			{at: "5:10", path: "spec.hosts"}, {at: "7:14", path: "spec.http[0].timeout"},
			{at: "8:5", path: "spec.http[0].name"}, {at: "9:25", path: "spec.http[1].retries.attempts"}}},
		{"behind an alias", virtualServiceText("  hosts: &x [1]\n  gateways: *x\n"), []want{{at: "5:14", path: "spec.hosts[0]"}, {at: "5:14", path: "spec.gateways[0]"}}},
	})
}

func TestA011UnknownFields(t *testing.T) {
	t.Parallel()
	runRefusals(t, []refusedText{
		{"top level", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec: {}\nsepc: {}\n",
			[]want{{at: "5:1", path: "sepc", message: `unknown field "sepc"`, hint: `did you mean "spec"? expected one of [apiVersion kind metadata spec status]`}}},
		{"misspelt", virtualServiceText("  http:\n  - retrise:\n      attempts: 3\n"),
			[]want{{at: "6:5", path: "spec.http[0].retrise", message: `unknown field "retrise"`, hint: `did you mean "retries"? expected one of [corsPolicy delegate`}}},
		{"nested", virtualServiceText("  http:\n  - route:\n    - destination:\n        host: a\n        subsett: v1\n"),
			[]want{{at: "9:9", path: "spec.http[0].route[0].destination.subsett", hint: `did you mean "subset"? expected one of [host port subset]`}}},
		{"wrong case", virtualServiceText("  Hosts: [a]\n"), []want{{at: "5:3", path: "spec.Hosts", hint: `"hosts"`}}},
		{"like nothing", virtualServiceText("  \"a b\": 1\n"), []want{{at: "5:3", path: `spec["a b"]`, hint: "expected one of [exportTo"}}},
		{"two spellings", virtualServiceText("  http:\n  - retries:\n      per_try_timeout: 1s\n      perTryTimeout: 2s\n"),
			[]want{{at: "7:7", path: "spec.http[0].retries.per_try_timeout", message: "per_try_timeout and perTryTimeout are one field, written on lines 7 and 8"}}},
	})
}

func TestTheNumberOfFindingsIsBounded(t *testing.T) {
	t.Parallel()
	_, findings := load(virtualServiceText("  hosts: [" + strings.Repeat("1, ", 5000) + "]\n"))
	if len(findings) != maxDocumentFindings+1 || !strings.Contains(findings[maxDocumentFindings].Message, "too many") {
		t.Errorf("%d findings", len(findings))
	}
	_, findings = load(strings.Repeat("a: [\n---\n", 3*maxFileFindings))
	if len(findings) != maxFileFindings+1 || !strings.Contains(findings[maxFileFindings].Message, "too many") {
		t.Errorf("%d findings", len(findings))
	}
}

func TestA013Enums(t *testing.T) {
	t.Parallel()
	lb := func(simple string) string {
		return servedText("DestinationRule", "  trafficPolicy: {loadBalancer: {simple: "+simple+"}}\n")
	}
	const path = "spec.trafficPolicy.loadBalancer.simple"
	runRefusals(t, []refusedText{
		{"unknown", lb("ROUNDROBIN"), []want{{at: "5:42", path: path, message: `unknown value "ROUNDROBIN"`, hint: `did you mean "ROUND_ROBIN"? expected one of [LEAST_CONN`}}},
		{"wrong case", lb("random"), []want{{at: "5:42", path: path, message: `unknown value "random"`, hint: `did you mean "RANDOM"?`}}},
		{"number", lb("2"), []want{{at: "5:42", path: path, message: "unknown value 2", hint: "expected one of ["}}},
		{"null", lb("null"), []want{{at: "5:34", path: path, message: "expected a name, found null"}}},
		{"list", lb("[RANDOM]"), []want{{at: "5:34", path: path, message: "expected a name, found a list"}}},
	})
}

func TestA014OneOf(t *testing.T) {
	t.Parallel()
	runRefusals(t, []refusedText{
		{"string match", virtualServiceText("  http:\n  - match:\n    - uri:\n        exact: /a\n        prefix: /b\n"),
			[]want{{at: "9:9", path: "spec.http[0].match[0].uri.prefix", message: "exact and prefix exclude each other", hint: "keep one"}}},
		{"hash key", servedText("DestinationRule", "  trafficPolicy:\n    loadBalancer:\n      consistentHash:\n        httpCookie: {name: a}\n        useSourceIp: false\n"),
			[]want{{at: "9:9", path: "spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp", message: "httpCookie and useSourceIp"}}},
		{"the first is bad too", virtualServiceText("  http:\n  - match: [{uri: {exact: 1, prefix: /b}}]\n"),
			[]want{{at: "6:27", path: "spec.http[0].match[0].uri.exact"}, {at: "6:30", path: "spec.http[0].match[0].uri.prefix", message: "exclude"}}},
		{"the second is bad too", servedText("DestinationRule", "  trafficPolicy:\n    loadBalancer: {simple: RANDOM, consistentHash: {x: 1}}\n"),
			[]want{{at: "6:36", path: "spec.trafficPolicy.loadBalancer.consistentHash", message: "simple and consistentHash"},
				{at: "6:53", path: "spec.trafficPolicy.loadBalancer.consistentHash.x", message: "unknown"}}},
	})
}

func TestA016Nulls(t *testing.T) {
	t.Parallel()
	runRefusals(t, []refusedText{
		{"spec missing", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\n", []want{{at: "1:1", path: "spec", message: "spec is missing"}}},
		{"spec null", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec:\n",
			[]want{{at: "4:1", path: "spec", message: "expected an object, found null", hint: "remove the line"}}},
		{"object", virtualServiceText("  http:\n  - retries:\n    timeout: 1s\n"), []want{{at: "6:5", path: "spec.http[0].retries", message: "expected an object, found null"}}},
		{"list", virtualServiceText("  http: ~\n"), []want{{at: "5:3", path: "spec.http", message: "expected a list, found null"}}},
		{"element", virtualServiceText("  hosts: [a]\n  http:\n  - name: a\n  -\n"), []want{{at: "8:4", path: "spec.http[1]", message: "element 1 of the list is null"}}},
		{"text element", virtualServiceText("  hosts: [a, null]\n"), []want{{at: "5:14", path: "spec.hosts[1]", message: "element 1"}}},
		{"scalar", virtualServiceText("  http:\n  - name:\n"), []want{{at: "6:5", path: "spec.http[0].name", message: "expected text, found null", hint: "remove the line"}}},
		{"duration", virtualServiceText("  http:\n  - timeout: null\n"), []want{{at: "6:5", path: "spec.http[0].timeout", message: "expected a duration, found null", hint: "remove the line"}}},
		{"wrapper", servedText("DestinationRule", "  trafficPolicy: {outlierDetection: {consecutive5xxErrors: }}\n"),
			[]want{{at: "5:38", path: "spec.trafficPolicy.outlierDetection.consecutive5xxErrors", message: "expected a whole number, found null"}}},
		{"value of an object", virtualServiceText("  http: [{match: [{headers: {a: }}]}]\n"),
			[]want{{at: "5:30", path: "spec.http[0].match[0].headers.a", message: "expected an object, found null"}}},
	})
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"10s": 10 * time.Second, "1h30m": 90 * time.Minute, "500ms": 500 * time.Millisecond, "0.5s": 500 * time.Millisecond,
		"0s": 0, "-1s": -time.Second, `"5m"`: 5 * time.Minute,
	} {
		resources, findings := load(virtualServiceText("  http: [{timeout: " + text + "}]\n"))
		if len(findings) > 0 {
			t.Errorf("%s: %v", text, findings)
			continue
		}
		if got := resources[0].doc.spec.(*networking.VirtualService).Http[0].Timeout.AsDuration(); got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
	for text, hint := range map[string]string{
		"5": `write "5s"`, `"5"`: `write "5s"`, "1.5": `write "1.5s"`, `"0"`: `write "0s"`, `"5 s"`: `write "5s"`, "NaN": "units are",
		"1e9h": "units are", "9999999h": "292 years", "ten": "units are", "1d": "units are", "true": `"10s"`, "[1s]": "",
		"0.1ns": "1ns", "5h m": "number before each unit", ".nan": `"10s"`, "''": "units are",
	} {
		_, findings := load(virtualServiceText("  http: [{timeout: " + text + "}]\n"))
		at := "5:20"
		if text == "[1s]" {
			at = "5:11"
		}
		expectRefused(t, findings, want{at: at, path: "spec.http[0].timeout", hint: hint})
	}
}
