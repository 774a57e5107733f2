package config

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/heddlemesh/mesh/snapshot"
)

// manyBadDocuments is how many documents with an error TestGeneratedDocuments makes.
const manyBadDocuments = 10_000

// TestGeneratedDocuments spoils valid documents, one or a few ways at a time and the same in every run: whatever is
// written, nothing panics, and whatever is found points at a place of the text.
func TestGeneratedDocuments(t *testing.T) {
	t.Parallel()
	var seeds []string
	eachObject(func(s *kindShape, o *objectShape, _ objectEntry) {
		for i := range o.fields {
			if text, _, err := s.sample(o, &o.fields[i], ""); err == nil {
				seeds = append(seeds, string(text))
			}
		}
	})
	rnd := rand.New(rand.NewPCG(20260801, 5))
	bad, made := 0, 0
	for ; bad < manyBadDocuments && made < 5*manyBadDocuments; made++ {
		text := seeds[rnd.IntN(len(seeds))]
		if rnd.IntN(4) == 0 {
			text += "---\n" + seeds[rnd.IntN(len(seeds))]
		}
		for range 1 + rnd.IntN(3) {
			text = spoilers[rnd.IntN(len(spoilers))](rnd, text)
		}
		if hasError(t, text) {
			bad++
		}
		if t.Failed() {
			t.Fatalf("document %d:\n%q", made, text)
		}
	}
	if bad < manyBadDocuments {
		t.Errorf("only %d of %d documents have an error", bad, made)
	}
	t.Logf("%d documents with an error, of %d made of %d", bad, made, len(seeds))
}

// hasError reads, checks and compiles a text, and fails for a finding that points nowhere.
func hasError(t *testing.T, text string) (bad bool) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("panic: %v", p)
		}
	}()
	lines := bytes.Split([]byte(text), []byte("\n"))
	for _, f := range allFindings(text) {
		if f.File != "a.yaml" || f.Line < 1 || f.Column < 1 || f.Line > len(lines) || f.Column > len(lines[f.Line-1])+1 ||
			f.Message == "" || f.Code == "" || f.Refused && f.Level != Error {
			t.Errorf("without a place in the text: %+v", f)
		}
		bad = bad || f.Level == Error
	}
	return bad
}

// endpointSets is made of what was accepted, and runs even where references lead nowhere.
func TestEndpointsOfGeneratedDocuments(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 1))
	eachObject(func(s *kindShape, o *objectShape, _ objectEntry) {
		for i := range o.fields {
			text, _, err := s.sample(o, &o.fields[i], "")
			if err != nil {
				continue
			}
			for range 5 {
				resources, found := Parse("a.yaml", []byte(spoilValue(rnd, string(text))))
				var docs []*document
				for _, r := range resources {
					found = append(found, r.doc.decode()...)
					if r.doc.spec != nil {
						found = append(found, r.doc.validate()...)
					}
					docs = append(docs, r.doc)
				}
				if !refusing(found) {
					endpointSets(docs, snapshot.Workload{Namespace: "default"})
				}
			}
		}
	})
}

// spoilers are ways to spoil a text.
var spoilers = []func(rnd *rand.Rand, text string) string{
	spoilValue, spoilValue, spoilValue, spoilKey, spoilKey, spoilShape, spoilShape,
	func(rnd *rand.Rand, text string) string { return text[:rnd.IntN(len(text)+1)] },
	func(rnd *rand.Rand, text string) string { // a line too many or too few, or one that is indented otherwise
		lines := strings.Split(text, "\n")
		i := rnd.IntN(len(lines))
		switch rnd.IntN(4) {
		case 0:
			lines = slices.Delete(lines, i, i+1)
		case 1:
			lines = slices.Insert(lines, i, lines[i])
		case 2:
			lines[i] = " " + lines[i]
		default:
			lines[i] = "\t" + strings.TrimSpace(lines[i])
		}
		return strings.Join(lines, "\n")
	},
	func(rnd *rand.Rand, text string) string { // some bytes
		i := rnd.IntN(len(text) + 1)
		scrap := []string{"\x00", "\xff\xfe", "\xc3", "\ufeff", "{", "]", "\"", "'", ": ", "- ", "&a ", "*a", "!!int ", "|\n", "%", "@", "#", "\r", "\u2028", "---\n", "...\n", "<<: "}
		return text[:i] + scrap[rnd.IntN(len(scrap))] + text[min(len(text), i+rnd.IntN(3)):]
	},
}

// badValues are what people and machines write in the place of something else.
var badValues = []string{
	"null", `""`, "~", "-1", "0", "1", "65536", "4294967296", "99999999999999999999", "0x10", "0755", "1e3", "1.5", "NaN", ".inf", "true", "on", "5s", "-1s", "1e9h", "0.5ms",
	`"a b"`, `"a\r\nb: c"`, `"\0"`, `"*"`, `"*.*"`, "a*b", "foo_bar", "a/b/c/d", "10.0.0.1", `"::1"`, `"[::1]:80"`, "10.0.0.0/8", "http://a", "a:80", `"("`, `"(x{1000}){1000}"`, `"%"`, `"%REQ(a)%"`,
	"unix:///a", "unix:a", "UNKNOWN", "simple", "2026-01-01", "[]", "{}", "[null]", "[[]]", "[a, a]", "{a: b}", "{a: {a: {}}}", "!x y", strings.Repeat("a", 300), "ü", "ab.", ".", "..", "~/*", "./*", "@request.auth.claims.x",
}

// spoilNode parses the text and changes one of the nodes that are wanted.
func spoilNode(rnd *rand.Rand, text string, wanted func(n *yaml.Node, key bool) bool, change func(n *yaml.Node)) string {
	var root yaml.Node
	if strings.Contains(text, "\n---\n") || yaml.Unmarshal([]byte(text), &root) != nil || len(root.Content) == 0 {
		return text + "\n" + badValues[rnd.IntN(len(badValues))]
	}
	var nodes []*yaml.Node
	var walk func(n *yaml.Node, key bool)
	walk = func(n *yaml.Node, key bool) {
		if wanted(n, key) {
			nodes = append(nodes, n)
		}
		for i, c := range n.Content {
			walk(c, n.Kind == yaml.MappingNode && i%2 == 0)
		}
	}
	walk(root.Content[0], false)
	if len(nodes) == 0 {
		return text
	}
	change(nodes[rnd.IntN(len(nodes))])
	out, err := yaml.Marshal(&root)
	if err != nil {
		return text
	}
	return string(out)
}

// spoilValue writes another value in the place of one.
func spoilValue(rnd *rand.Rand, text string) string {
	return spoilNode(rnd, text, func(n *yaml.Node, key bool) bool { return !key && len(n.Content) < 3 }, func(n *yaml.Node) {
		var v yaml.Node
		if err := yaml.Unmarshal([]byte(badValues[rnd.IntN(len(badValues))]), &v); err == nil && len(v.Content) > 0 {
			*n = *v.Content[0]
		}
	})
}

// spoilKey misspells a name.
func spoilKey(rnd *rand.Rand, text string) string {
	return spoilNode(rnd, text, func(n *yaml.Node, key bool) bool { return key && n.Value != "" }, func(n *yaml.Node) {
		i := rnd.IntN(len(n.Value))
		switch rnd.IntN(5) {
		case 0:
			n.Value = n.Value[:i] + n.Value[i+1:]
		case 1:
			n.Value = n.Value[:i] + n.Value[i:i+1] + n.Value[i:]
		case 2:
			n.Value = strings.ToUpper(n.Value)
		case 3:
			n.Value = fmt.Sprint(rnd.IntN(100))
		default:
			n.Value = []string{"http", "match", "spec", "host", "<<", "a.b", ""}[rnd.IntN(7)]
		}
	})
}

// spoilShape takes something out of an object or a list, puts it there twice, or wraps it.
func spoilShape(rnd *rand.Rand, text string) string {
	return spoilNode(rnd, text, func(n *yaml.Node, _ bool) bool { return len(n.Content) > 0 }, func(n *yaml.Node) {
		step := 1
		if n.Kind == yaml.MappingNode {
			step = 2
		}
		i := rnd.IntN(len(n.Content)/step) * step
		switch rnd.IntN(4) {
		case 0:
			n.Content = slices.Delete(n.Content, i, i+step)
		case 1:
			n.Content = append(n.Content, n.Content[i:i+step]...)
		case 2:
			inner := *n
			*n = yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{&inner}}
		default:
			value := n.Content[i+step-1]
			inner := *value
			*value = yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "x"}, &inner}}
		}
	})
}
