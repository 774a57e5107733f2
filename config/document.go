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
	root        *yaml.Node // the document's mapping; lines are those of the file
	created     time.Time  // zero where metadata gives none

	// spec is what the document says once it is decoded, nil until then: a message of Istio's, or one of the
	// types of kubernetes.go.
	spec any
	// entry is the ServiceEntry, or what a Service amounts to as one; nil for other kinds.
	entry *networking.ServiceEntry

	page *page
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
