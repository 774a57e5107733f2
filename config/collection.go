package config

import (
	"errors"
	"io/fs"

	"github.com/heddlemesh/mesh/call"
)

// A collection gathers texts into one Update.
type collection struct {
	resources []Resource
	findings  []Finding
	refused   int
	read      map[string]bool
	first     map[Key]*document
	known     *parsedSections // nil: everything is parsed
}

func (c *collection) update() Update {
	return Update{Upsert: c.resources, Full: true, Findings: c.findings}
}

func (c *collection) add(findings ...Finding) {
	for i := range findings {
		f := &findings[i]
		f.File = call.Printable(f.File)
		if f.Refused {
			c.refused++
		}
	}
	c.findings = append(c.findings, findings...)
}

// unreadable refuses the update because of a path.
func (c *collection) unreadable(name string, err error) {
	cause := err
	// The path is the finding's own; the one in the error may be relative to something else.
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		cause = p.Err
	}
	c.add(Finding{Code: codeUnreadable, Level: Error, Refused: true, File: name, Message: "cannot read: " + cause.Error()})
}

// firstTime reports a file that has not been read before.
func (c *collection) firstTime(name string) bool {
	if c.read == nil {
		c.read = make(map[string]bool)
	}
	again := c.read[name]
	c.read[name] = true
	return !again
}

// text takes in one text. Of two documents with one key the first is kept and the second refused: which of
// them counts must not depend on the names of files.
func (c *collection) text(name string, text []byte) {
	p := parser{file: call.Printable(name), line: 1, namespace: defaultNamespace, known: c.known, settles: true}
	p.text(text)
	c.add(p.findings...)
	if c.first == nil {
		c.first = make(map[Key]*document)
	}
	for _, r := range p.resources {
		first := c.first[r.Key]
		if first == nil {
			c.first[r.Key] = r.doc
			c.resources = append(c.resources, r)
			continue
		}
		path := []any{"metadata", "name"}
		there := first.refuse(path, "", "")
		c.add(r.doc.finding(Error, codeDuplicate, true, path,
			r.Key.String()+" is already declared at "+there.Position(), "remove one of them or rename it"))
	}
}
