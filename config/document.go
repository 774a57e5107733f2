package config

import (
	"time"

	"go.yaml.in/yaml/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// A document is what is known of one resource once its text is parsed. It belongs to one goroutine until
// it is decoded and is read-only from then on.
type document struct {
	key        Key
	origin     Origin
	apiVersion string
	labels     map[string]string // of metadata
	// annotations are those of metadata too.
	annotations map[string]string
	// root is the document's mapping, with lines of the file, until the document is settled; tree gives it afterwards too.
	root    *yaml.Node
	outline outline   // what at looks things up in then
	created time.Time // zero where metadata gives none

	// spec is what the document says once it is decoded, nil until then: a message of Istio's, or one of the
	// types of kubernetes.go.
	spec any
	// entry is the ServiceEntry, or what a Service amounts to as one; nil for other kinds.
	entry *networking.ServiceEntry

	page *page

	judged bool
	faults []Finding // of the document alone, once it is judged
}

// judge decodes and validates a document of a served kind and reports what is wrong with it.
func (d *document) judge() []Finding {
	if !d.judged {
		d.judged = true
		if d.faults = d.decode(); !refusing(d.faults) {
			d.faults = append(d.faults, forTheMesh(d, d.validate())...)
		}
	}
	return d.faults
}

// settle lets go of the nodes, which are many times the size of all else that is known of a document.
func (d *document) settle() {
	if d.root != nil {
		d.outline, d.root = newOutline(d), nil
	}
}

// tree gives the document's mapping, parsed anew where the document is settled.
func (d *document) tree() *yaml.Node {
	if d.root != nil {
		return d.root
	}
	again := parser{file: d.origin.File, line: d.page.line, document: d.origin.Document, namespace: d.key.Namespace}
	again.text(d.page.text)
	line, column := d.at()
	for _, r := range again.resources {
		// Of the items of a List, which have one text, that which stands where this one does.
		if l, c := r.doc.at(); r.Key == d.key && l == line && c == column {
			return r.doc.root
		}
	}
	return &yaml.Node{Kind: yaml.MappingNode}
}

// finding describes one thing about the document, found at path.
func (d *document) finding(level Level, code string, refused bool, path []any, message, hint string) Finding {
	line, column := d.at(path...)
	return d.findingAt(line, column, level, code, refused, pathString(path), message, hint)
}

func (d *document) findingAt(line, column int, level Level, code string, refused bool, path, message, hint string) Finding {
	return Finding{
		Code: code, Level: level, Refused: refused,
		File: d.origin.File, Document: d.origin.Document, Line: line, Column: column,
		Kind: d.key.Kind, Namespace: d.key.Namespace, Name: d.key.Name,
		Path: path, Message: message, Hint: hint,
	}
}

// refuse is the finding that most faults come to: the field at path makes the document unacceptable.
func (d *document) refuse(path []any, message, hint string) Finding {
	return d.finding(Error, codeSchema, true, path, message, hint)
}

// refuseAt is refuse for a fault that lies elsewhere than where path leads, as in a key.
func (d *document) refuseAt(n *yaml.Node, path []any, message, hint string) Finding {
	line, column := d.position(n)
	return d.findingAt(line, column, Error, codeSchema, true, pathString(path), message, hint)
}
