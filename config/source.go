package config

import (
	"context"
	"fmt"
	"time"
)

// Key names one document: no two documents of a mesh share one.
type Key struct {
	Kind      string // "VirtualService", "ServiceEntry", …
	Namespace string // "default" where the document gives none
	Name      string
}

// String gives the key as "Kind namespace/name", the form that findings and logs use.
func (k Key) String() string { return fmt.Sprintf("%s %s/%s", k.Kind, k.Namespace, k.Name) }

// Origin says where a document was read, so that a finding can point at it.
type Origin struct {
	File     string // path, "<inline 1>", or whatever the source calls the place
	Document int    // position in File, from 1
	Line     int    // line of File on which the document's text begins, from 1
}

// A Resource is one document on its way in, its body still text.
type Resource struct {
	Key Key
	// Version changes when Body changes. A resource whose Version is unchanged is not decoded again.
	Version string
	// Created orders documents that contradict each other: the oldest wins, as in Istio. Files have no
	// such time; where it is zero the order of arrival decides, then the name.
	Created time.Time
	Origin  Origin
	Body    []byte // YAML or JSON, one document

	doc *document // what Parse already knows of Body; nil for a resource made by hand
}

// An Update is one transaction of a Source. A source that reads a directory sends Full updates, all or
// nothing; one that watches an API sends the changes.
type Update struct {
	Upsert []Resource
	Remove []Key
	Full   bool // Upsert is everything this source has: what it does not name is removed
	// Findings are what the source itself met while reading: an unreadable file, a document that could
	// not be parsed, a kind that is not ours. One that refuses, refuses the whole Update.
	Findings []Finding
	// taken is called when the transaction is over and before it is reported, which may ask for the next one; nil for nobody.
	taken func()
}

// A Verdict tells a source what became of one resource of its Update. Where the Update was refused as a
// whole, one more verdict, with the zero Key, says why.
type Verdict struct {
	Key      Key
	Accepted bool
	Findings []Finding
}

// A Source hands over documents. Run calls apply once for what it has, again for each change, never
// concurrently, and returns when ctx ends or, for a source that cannot change, after its one update.
// apply returns when the update is live or refused.
type Source interface {
	Run(ctx context.Context, apply func(Update) []Verdict) error
}

// A Keeper is a Source that has an update in reserve for the start. Where the first transaction of all sources is refused, each Keeper is asked
// once; where one has something, the transaction is made anew with that in the place of what the Keeper brought, and where that is taken
// too, Status has a version and the refusal. Kept is called with no other call of the source under way.
type Keeper interface {
	Source
	Kept(refused *ConfigError) (Update, bool)
}
