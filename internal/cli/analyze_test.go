package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

const (
	// legacy has one warning, other one of another document and one line of information.
	legacy = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: legacy}
spec:
  host: legacy
`
	other = `apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews}
---
apiVersion: v1
kind: List
items:
- apiVersion: networking.istio.io/v1
  kind: DestinationRule
  metadata: {name: old, namespace: shop}
  spec:
    host: old
`
	dangling = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v9}
`
	registry = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 9080, name: http, protocol: HTTP}
  endpoints:
  - {address: 10.1.0.11, labels: {version: v1}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
`
	typo = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - retrise: {attempts: 3}
    route:
    - destination: {host: reviews}
`
	restricting = `apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: nobody}
spec: {}
`
	broken = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews
  http:
  - route: []
`

	warnLegacy = `Warning [IST0174] (DestinationRule default/legacy mesh.d/b.yaml:5:9) spec.host: host "legacy" (legacy.default.svc.cluster.local) is not in the registry; add a ServiceEntry for it
`
	warnOld = `Warning [IST0174] (DestinationRule shop/old mesh.d/a.yaml:12:11) spec.host: host "old" (old.shop.svc.cluster.local) is not in the registry; add a ServiceEntry for it
`
	infoSkipped = `Info [HDL0004] (Deployment default/reviews mesh.d/a.yaml:2:7) kind: Deployment default/reviews skipped: not a mesh document
`
	errDangling = `Error [IST0101] (VirtualService default/reviews mesh.d/a.yaml:8:44) spec.http[0].route[0].destination.subset: subset "v9" of reviews.default.svc.cluster.local is not defined; calls get 503, flag NC; DestinationRule default/reviews (mesh.d/r.yaml:17) applies to the host, which has v1
`
	errRestricts = `Error [HDL0002] (EnvoyFilter default/nobody mesh.d/a.yaml:2:7) kind: EnvoyFilter restricts traffic, and this version cannot enforce it; name the kind in WithIgnoredKinds or --ignore-kind where running without it is acceptable
`
	unchecked = "the set is refused, and so references between its documents were not checked\n"
)

func TestAnalyze(t *testing.T) {
	doubtful := map[string]string{"mesh.d/a.yaml": other, "mesh.d/b.yaml": legacy}
	missing := map[string]string{"mesh.d/a.yaml": dangling, "mesh.d/r.yaml": registry}
	restricted := map[string]string{"mesh.d/a.yaml": restricting, "mesh.d/b.yaml": legacy}
	for _, c := range []struct {
		name  string
		files map[string]string
		stdin string
		args  string
		want  result
	}{
		{"clean", map[string]string{"mesh.d/r.yaml": registry}, "", "mesh.d",
			result{0, "", "2 documents in 1 file: no findings\n"}},
		{"empty directory", map[string]string{"mesh.d/notes.txt": ""}, "", "mesh.d",
			result{0, "Warning [HDL0005] (mesh.d) no documents; expected files ending in .yaml, .yml or .json with documents of the mesh\n",
				"0 documents in 0 files: 1 warning\n"}},
		{"dangling subset", missing, "", "mesh.d",
			result{79, errDangling, "3 documents in 2 files: 1 error\n"}},
		{"dangling subset, strict", missing, "", "--strict mesh.d",
			result{79, errDangling, "3 documents in 2 files: 1 error\na mesh with WithStrictConfig refuses the set\n"}},
		{"dangling subset, suppressed", missing, "", "-S IST0101 mesh.d",
			result{0, "", "3 documents in 2 files: no findings, 1 suppressed\n"}},
		{"several paths", map[string]string{"one.yaml": dangling, "mesh.d/r.yaml": registry}, "", "mesh.d one.yaml",
			result{79, strings.ReplaceAll(errDangling, "mesh.d/a.yaml", "one.yaml"), "3 documents in 2 files: 1 error\n"}},
		{"half of it from standard input", map[string]string{"mesh.d/r.yaml": registry}, dangling, "mesh.d -",
			result{79, strings.ReplaceAll(errDangling, "mesh.d/a.yaml", "<stdin>"), "3 documents in 2 files: 1 error\n"}},
		{"declared on standard input too", map[string]string{"a.yaml": legacy}, legacy, "- a.yaml",
			result{79, "Error [HDL0006] (DestinationRule default/legacy <stdin>:3:18) metadata.name: DestinationRule default/legacy is in a.yaml:3 already; rename or remove one of them\n",
				"2 documents in 2 files: 1 error\n" + unchecked}},
		{"empty standard input", nil, "", "-", result{0, "", "0 documents in 0 files: no findings\n"}},

		{"warnings are no failure", doubtful, "", "mesh.d",
			result{0, infoSkipped + warnOld + warnLegacy, "3 documents in 2 files: 2 warnings, 1 information\n"}},
		{"failure threshold", doubtful, "", "--failure-threshold warning mesh.d",
			result{79, infoSkipped + warnOld + warnLegacy, "3 documents in 2 files: 2 warnings, 1 information\n"}},
		{"output threshold", doubtful, "", "--output-threshold Warning mesh.d",
			result{0, warnOld + warnLegacy, "3 documents in 2 files: 2 warnings, 1 information\n"}},
		{"thresholds are independent", doubtful, "", "--failure-threshold Info --output-threshold Error mesh.d",
			result{79, "", "3 documents in 2 files: 2 warnings, 1 information\n"}},
		{"strict", doubtful, "", "--strict --output-threshold Error mesh.d",
			result{79, warnOld + warnLegacy, "3 documents in 2 files: 2 warnings, 1 information\na mesh with WithStrictConfig refuses the set\n"}},
		{"strict knows no suppression", doubtful, "", "--strict -S IST0174 -S HDL0004 mesh.d",
			result{79, warnOld + warnLegacy, "3 documents in 2 files: 2 warnings, 1 suppressed\n" +
				"2 findings not suppressed: what refuses the set is always shown\na mesh with WithStrictConfig refuses the set\n"}},
		{"suppress a code", doubtful, "", "--failure-threshold Info -S IST0174 -S HDL0004 mesh.d",
			result{0, "", "3 documents in 2 files: no findings, 3 suppressed\n"}},
		{"suppress ns/name", doubtful, "", "-S IST0174=DestinationRule_shop/old mesh.d",
			result{0, infoSkipped + warnLegacy, "3 documents in 2 files: 1 warning, 1 information, 1 suppressed\n"}},
		{"suppress name.ns", doubtful, "", "-S IST0174=DestinationRule_*.default mesh.d",
			result{0, infoSkipped + warnOld, "3 documents in 2 files: 1 warning, 1 information, 1 suppressed\n"}},
		{"suppress a name", doubtful, "", "-S IST0174=destinationrule_legacy mesh.d",
			result{0, infoSkipped + warnOld, "3 documents in 2 files: 1 warning, 1 information, 1 suppressed\n"}},
		{"suppressed by the document", map[string]string{"mesh.d/a.yaml": other,
			"mesh.d/b.yaml": strings.Replace(legacy, "{name: legacy}", "{name: legacy, annotations: {galley.istio.io/analyze-suppress: 'IST0101, IST0174'}}", 1)}, "", "-R mesh.d",
			result{0, infoSkipped + warnOld, "3 documents in 2 files: 1 warning, 1 information, 1 suppressed\n"}},
		{"suppressed by the document, all", map[string]string{"b.yaml": strings.Replace(legacy, "{name: legacy}", "{name: legacy, annotations: {galley.istio.io/analyze-suppress: '*'}}", 1)}, "", "b.yaml",
			result{0, "", "1 document in 1 file: no findings, 1 suppressed\n"}},
		{"a document suppresses no refusal", map[string]string{"b.yaml": strings.Replace(typo, "{name: reviews}", "{name: reviews, annotations: {galley.istio.io/analyze-suppress: '*'}}", 1)}, "", "--output-threshold Error b.yaml",
			result{79, "*", "1 document in 1 file: 1 error\n1 finding not suppressed: what refuses the set is always shown\n" + unchecked}},
		{"a lint suppressed", map[string]string{"mesh.d/r.yaml": registry, "mesh.d/a.yaml": strings.Replace(dangling, "subset: v9}", "subset: v1}\n      weight: 7", 1)}, "", "--failure-threshold Warning -S HDL0108=VirtualService_default/* mesh.d",
			result{0, "", "3 documents in 2 files: no findings, 1 suppressed\n"}},
		{"suppress another document", doubtful, "", "-S IST0174=VirtualService_shop/old -S IST0101 mesh.d",
			result{0, infoSkipped + warnOld + warnLegacy, "3 documents in 2 files: 2 warnings, 1 information\n"}},

		{"a kind that cannot be enforced", restricted, "", "mesh.d",
			result{79, errRestricts, "2 documents in 2 files: 1 error\n" + unchecked}},
		{"a refusal cannot be suppressed", restricted, "", "-S HDL0002 mesh.d",
			result{79, errRestricts, "2 documents in 2 files: 1 error\n1 finding not suppressed: what refuses the set is always shown\n" + unchecked}},
		{"ignored kind", restricted, "", "--ignore-kind EnvoyFilter -S HDL0004 mesh.d",
			result{0, warnLegacy, "2 documents in 2 files: 1 warning, 1 suppressed\n"}},

		{"typo", map[string]string{"mesh.d/a.yaml": typo, "mesh.d/b.yaml": legacy}, "", "mesh.d",
			result{79, `Error [IST0106] (VirtualService default/reviews mesh.d/a.yaml:7:5) spec.http[0].retrise: unknown field "retrise"; did you mean "retries"? expected one of [corsPolicy delegate directResponse fault headers match mirror mirrorPercent mirrorPercentage mirrors name redirect … and 4 more]
`, "2 documents in 2 files: 1 error\n" + unchecked}},
		{"no kind", nil, "a: b\n", "-",
			result{79, "Error [IST0106] (<stdin>:1:1) apiVersion: apiVersion is missing; every document has apiVersion and kind\n" +
				"Error [IST0106] (<stdin>:1:1) kind: kind is missing; every document has apiVersion and kind\n",
				"1 document in 1 file: 2 errors\n" + unchecked}},

		{"missing path", nil, "", "nowhere",
			result{65, "Error [HDL0001] (nowhere) cannot read: no such file or directory\n", "0 documents in 0 files: 1 error\n" + unchecked}},
		{"broken YAML", map[string]string{"mesh.d/a.yaml": broken, "mesh.d/b.yaml": legacy}, "", "mesh.d",
			result{65, "Error [IST0106] (mesh.d/a.yaml:7:5) cannot parse YAML: did not find expected ',' or ']'\n",
				"2 documents in 2 files: 1 error\n" + unchecked}},
		{"broken YAML beside a finding", map[string]string{"mesh.d/a.yaml": typo + "---\na: [\n"}, "", "-S IST0106 -o json --output-threshold Error mesh.d",
			result{65, "*", "2 documents in 1 file: 2 errors\n2 findings not suppressed: what refuses the set is always shown\n" + unchecked}},
		{"encoding", nil, "a: \xff\n", "-",
			result{65, "Error [IST0106] (<stdin>:1:4) invalid UTF-8 at byte 3 (0xff); save the file as UTF-8\n",
				"0 documents in 1 file: 1 error\n" + unchecked}},
		{"no YAML object", nil, "just words\n", "-",
			result{65, "Error [IST0106] (<stdin>:1:1) expected an object, found \"just words\"; a document begins with apiVersion and kind\n",
				"1 document in 1 file: 1 error\n" + unchecked}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files(t, c.files)
			args := []string{"analyze"}
			for _, a := range strings.Fields(c.args) {
				args = append(args, strings.ReplaceAll(a, "_", " "))
			}
			got := heddle(t, c.stdin, args...)
			if got.code != c.want.code {
				t.Errorf("exit code %d, want %d", got.code, c.want.code)
			}
			if c.want.stdout != "*" {
				same(t, "stdout", got.stdout, c.want.stdout)
			}
			same(t, "stderr", got.stderr, c.want.stderr)
		})
	}
}

// TestAnalyzeUnreadableFile: a file of a directory that cannot be read is not passed over.
func TestAnalyzeUnreadableFile(t *testing.T) {
	files(t, map[string]string{"mesh.d/a.yaml": legacy})
	if err := os.Symlink("nowhere", "mesh.d/b.yaml"); err != nil {
		t.Skip(err)
	}
	if err := os.Mkdir("elsewhere", 0o700); err != nil {
		t.Fatal(err)
	}
	r := heddle(t, "", "analyze", "mesh.d")
	if r.code != exitInput || !strings.HasPrefix(r.stdout, "Error [HDL0001] (mesh.d/b.yaml) cannot read: ") {
		t.Errorf("%+v", r)
	}
	// A link that is not followed is a warning: strictness refuses it, but it is not unreadable.
	if err := os.Remove("mesh.d/b.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../elsewhere", "mesh.d/c"); err != nil {
		t.Fatal(err)
	}
	if r := heddle(t, "", "analyze", "mesh.d"); r.code != exitOK {
		t.Errorf("%+v", r)
	}
	if r := heddle(t, "", "analyze", "--strict", "mesh.d"); r.code != exitFindings {
		t.Errorf("%+v", r)
	}
}

func TestAnalyzeBookinfo(t *testing.T) {
	t.Parallel()
	r := heddle(t, "", "analyze", "--strict", "--failure-threshold", "Info", "testdata/bookinfo")
	if want := (result{0, "", "9 documents in 3 files: no findings\n"}); r != want {
		t.Errorf("%+v", r)
	}
}

// TestAnalyzeWorkload: which rules are seen depends on who calls.
func TestAnalyzeWorkload(t *testing.T) {
	files(t, map[string]string{"a.yaml": strings.Replace(dangling, "{name: reviews}", "{name: reviews, namespace: shop}", 1) +
		"  exportTo: [.]\n"})
	if r := heddle(t, "", "analyze", "a.yaml"); r.code != exitOK || r.stdout != "" {
		t.Errorf("%+v", r)
	}
	for _, w := range []string{"shop", "shop/web"} {
		if r := heddle(t, "", "analyze", "--workload", w, "--labels", "app=web, version=v1", "a.yaml"); r.code != exitFindings {
			t.Errorf("%+v", r)
		}
	}
}

func TestAnalyzeJSON(t *testing.T) {
	files(t, map[string]string{"a.yaml": typo, "r.yaml": registry})
	if r := heddle(t, "", "analyze", "-o", "json", "r.yaml"); r.code != exitOK || r.stdout != "[]\n" {
		t.Errorf("%+v", r)
	}
	r := heddle(t, "", "analyze", "-o", "json", ".")
	var found []struct {
		Code, Level, File, Kind, Namespace, Name, Path, Message, Hint string
		Line, Column                                                  int
		Refused                                                       bool
	}
	if err := json.Unmarshal([]byte(r.stdout), &found); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	if r.code != exitFindings || len(found) != 1 {
		t.Fatalf("exit code %d, %+v", r.code, found)
	}
	f := found[0]
	if f.Code != "IST0106" || f.Level != "Error" || !f.Refused || f.File != "a.yaml" || f.Line != 7 || f.Column != 5 ||
		f.Kind != "VirtualService" || f.Namespace != "default" || f.Name != "reviews" ||
		f.Path != "spec.http[0].retrise" || !strings.HasPrefix(f.Hint, `did you mean "retries"?`) {
		t.Errorf("%+v", f)
	}
}
