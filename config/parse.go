package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// defaultNamespace is where a document belongs that names no namespace.
const defaultNamespace = "default"

// Parse splits text into its documents, YAML or JSON, and gives one Resource for each that is the mesh's,
// in their order. A kind: List is taken apart into its items. The fields under spec are not yet looked at,
// but for documents whose name is missing: these have no Resource to carry the faults of their fields.
//
// Findings hold everything wrong with the text itself (syntax, encoding, size, keys, kinds, metadata), and
// one line of information for each document that is somebody else's. One that has Refused set means that
// the resources must not be used. file is the name that positions give. Empty text is no error. The
// resources keep text: it must not be changed afterwards. Safe for concurrent use.
func Parse(file string, text []byte) ([]Resource, []Finding) {
	p := parser{file: file, line: 1, namespace: defaultNamespace}
	p.text(text)
	return p.resources, p.findings
}

// A parser goes through one text.
type parser struct {
	file      string
	line      int    // of the file, at which the text begins
	document  int    // number in the file of the document that the text is; 0 where it is a whole file
	namespace string // of documents that name none
	known     *parsedSections
	settles   bool // every resource is judged and settled at once, so that the nodes of one text are never there together

	resources []Resource
	findings  []Finding
	refused   int
}

func (p *parser) add(findings ...Finding) {
	for _, f := range findings {
		if f.Refused {
			p.refused++
		}
		p.findings = append(p.findings, f)
	}
}

// refuse is for faults of the text, before there is a document to name.
func (p *parser) refuse(document, line, column int, message, hint string) {
	p.add(Finding{Code: codeSchema, Level: Error, Refused: true, File: p.file, Document: document,
		Line: line, Column: column, Message: message, Hint: hint})
}

func (p *parser) text(text []byte) {
	if len(text) > MaxFileBytes {
		p.refuse(p.document, p.line, 1, tooLarge("text", MaxFileBytes), "split it")
		return
	}
	if offset, message, hint := badEncoding(text); message != "" {
		line, column := lineColumn(text, offset)
		p.refuse(p.document, line+p.line-1, column, message, hint)
		return
	}
	if len(text) >= 3 && string(text[:3]) == "\uFEFF" {
		text = text[3:]
	}
	for s := range sections(text) {
		s.line += p.line - 1
		if p.document > 0 {
			s.number = p.document
		}
		if p.refused >= maxFileFindings {
			p.refuse(s.number, s.line, 1, "too many errors: the rest of the file is not read", "")
			return
		}
		p.sectionOnce(s)
	}
}

// sectionOnce parses a section unless the same text stood at the same place before.
func (p *parser) sectionOnce(s section) {
	v := version(p.file, s)
	if p.known == nil {
		p.section(s, v)
		return
	}
	before, again := p.known.recall(v)
	if again {
		p.resources = append(p.resources, before.resources...)
		p.add(before.findings...)
		return
	}
	resources, findings := len(p.resources), len(p.findings)
	p.section(s, v)
	p.known.keep(v, parsedSection{slices.Clone(p.resources[resources:]), slices.Clone(p.findings[findings:])})
}

func tooLarge(what string, most int) string {
	return fmt.Sprintf("the %s is larger than %d MiB (%d bytes)", what, most>>20, most)
}

// section parses one document and finds out what it is.
func (p *parser) section(s section, version string) {
	switch {
	case len(s.text) > MaxDocumentBytes:
		p.refuse(s.number, s.line, 1, tooLarge("document", MaxDocumentBytes), "split it")
		return
	case tooDense(s.text):
		p.refuse(s.number, s.line, 1, fmt.Sprintf("the document may hold more than %d values", maxStructure), "split it")
		return
	}
	root, bad := parseYAML(s.text)
	if bad != nil {
		line, column := lineColumn(s.text, bad.offset)
		p.refuse(s.number, line+s.line-1, column, bad.message, bad.hint)
		return
	}
	if root == nil {
		return
	}
	shift(root, s.line-1)
	d := &document{
		origin: Origin{File: p.file, Document: s.number, Line: s.line},
		root:   root, page: newPage(s.line, s.text),
	}
	aliased := 0
	p.identify(d, version, &aliased)
}

// version names a document's content and place: one that has moved must have its positions read again.
func version(file string, s section) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %d %d\n", file, s.number, s.line)
	h.Write(s.text)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// identify finds out what d is: a resource, a list of them, or not the mesh's business.
func (p *parser) identify(d *document, version string, aliased *int) {
	if d.root.Kind != yaml.MappingNode {
		p.add(d.refuse(nil, "expected an object, found "+describe(d.root), "a document begins with apiVersion and kind"))
		return
	}
	head := checker{d: d, aliased: aliased}
	head.keys(d.root)
	if len(head.found) > 0 {
		p.add(head.found...)
		return
	}
	w := decoding{d: d}
	d.apiVersion = w.headline("apiVersion")
	d.key.Kind = w.headline("kind")
	kind := d.key.Kind
	d.key.Kind = clip(kind)
	d.peekName(p.namespace)
	if len(w.found) > 0 {
		p.add(w.found...)
		return
	}
	if d.apiVersion == "v1" && kind == "List" {
		p.list(d, version, aliased)
		return
	}
	ours, field, message, hint := classify(d.apiVersion, kind)
	switch {
	case !ours && d.holdsMeshConfig():
		p.meshConfigMap(d, version, aliased)
	case !ours:
		p.skip(d)
	case message != "":
		p.add(d.refuse([]any{field}, message, hint))
	default:
		p.resource(d, version, aliased)
	}
}

// headline reads apiVersion or kind.
func (w *decoding) headline(field string) string {
	w.path = []any{field}
	_, n := entry(w.d.root, field)
	if n == nil {
		w.refuse(complaint{field + " is missing", "every document has apiVersion and kind"})
		return ""
	}
	s, bad := textValue(n)
	if bad == (complaint{}) && s == "" {
		bad.message = field + " is empty"
	}
	if bad != (complaint{}) {
		w.refuse(bad)
	}
	return s
}

// list takes a kind: List apart, as kubectl get -o yaml writes it.
func (p *parser) list(d *document, version string, aliased *int) {
	_, items := entry(d.root, "items")
	if items == nil {
		p.add(d.refuse([]any{"items"}, "items is missing", "a List has items"))
		return
	}
	if items = target(items); items.Kind != yaml.SequenceNode {
		p.add(d.refuse([]any{"items"}, "expected a list, found "+describe(items), ""))
		return
	}
	for i, n := range items.Content {
		if p.refused >= maxFileFindings {
			p.add(d.refuse([]any{"items", i}, "too many errors: the rest of the list is not read", ""))
			return
		}
		path := []any{"items", i}
		if n.Kind != yaml.MappingNode {
			p.add(d.refuse(path, "expected an object, found "+describe(n), ""))
			continue
		}
		if _, kind := entry(n, "kind"); kind != nil && target(kind).Value == "List" {
			p.add(d.refuse(path, "a List within a List", "list the items in one"))
			continue
		}
		item := &document{origin: d.origin, root: n, page: d.page}
		p.identify(item, version+"-"+strconv.Itoa(i), aliased)
	}
}

// skip says that a document is passed over.
func (p *parser) skip(d *document) {
	name := d.key.Kind
	if d.key.Name != "" {
		name += " " + d.key.Namespace + "/" + d.key.Name
	}
	p.add(d.finding(Info, codeSkipped, false, []any{"kind"}, name+" skipped: not a mesh document", ""))
}

// resource takes in a document of a known kind.
func (p *parser) resource(d *document, version string, aliased *int) {
	if found := d.check(aliased); len(found) > 0 {
		p.add(found...)
		return
	}
	found, named := d.readMetadata(p.namespace)
	p.add(found...)
	if !named {
		if kinds[d.kind()].state == kindServed {
			p.add(d.decode()...)
		}
		return
	}
	if p.settles {
		if kinds[d.kind()].state == kindServed {
			d.judge()
		}
		d.settle()
	}
	p.resources = append(p.resources, Resource{
		Key: d.key, Version: version, Created: d.created, Origin: d.origin, Body: d.page.text, doc: d,
	})
}

// parsed gives the document of a resource. One made by hand is parsed here; what it lacks of key, version
// and time of creation is filled in from its body. A nil document without a finding that refuses is not
// the mesh's.
func (r *Resource) parsed() (*document, []Finding) {
	if r.doc != nil {
		return r.doc, nil
	}
	p := parser{file: r.Origin.File, line: max(1, r.Origin.Line), document: max(1, r.Origin.Document), namespace: defaultNamespace}
	if r.Key.Namespace != "" {
		p.namespace = r.Key.Namespace
	}
	p.text(r.Body)
	if p.refused > 0 || len(p.resources) == 0 && len(p.findings) > 0 {
		return nil, p.findings
	}
	for _, made := range p.resources {
		if r.Key == made.Key || r.Key == (Key{}) && len(p.resources) == 1 {
			r.doc, r.Key, r.Origin = made.doc, made.Key, made.Origin
			if r.Version == "" {
				r.Version = made.Version
			}
			if r.Created.IsZero() {
				r.Created = made.Created
			}
			return r.doc, p.findings
		}
	}
	p.refuse(p.document, p.line, 1, "the body is not the one document "+r.Key.String(), "")
	return nil, p.findings
}
