package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// An analysis is what one look at a set of documents brought.
type analysis struct {
	findings  []config.Finding // sorted by place
	documents int
	files     int
	compiled  bool // the set was accepted, and so references between its documents were checked
	// silenced has the codes that documents ask by annotation not to hear of.
	silenced map[config.Key][]string
}

// silences reports a finding that its own document asks not to hear of.
func (a *analysis) silences(f config.Finding) bool {
	codes := a.silenced[config.Key{Kind: f.Kind, Namespace: f.Namespace, Name: f.Name}]
	return slices.Contains(codes, f.Code) || slices.Contains(codes, "*")
}

// analyze takes the documents of the sources as a mesh would, and makes nothing live. It fails when ctx ends.
func analyze(ctx context.Context, o config.Options, sources ...config.Source) (*analysis, error) {
	recorders := make([]*recorder, len(sources))
	recorded := make([]config.Source, len(sources))
	for i, s := range sources {
		recorders[i] = &recorder{source: s, places: make(map[place]bool), silenced: make(map[config.Key][]string)}
		recorded[i] = recorders[i]
	}
	joined := config.Join(o, new(discovery.Registry), recorded...)
	done := make(chan error, 1)
	go func() {
		done <- joined.Run(ctx, func(context.Context, *snapshot.Snapshot) error { return nil })
	}()
	select {
	case err := <-done:
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
	case <-ctx.Done(): // files that are being read are read to their end, and nobody waits for it
		return nil, ctx.Err()
	}

	a := &analysis{compiled: joined.Compiles() > 0, silenced: make(map[config.Key][]string)}
	files := make(map[string]bool)
	status := joined.Status()
	all := status.Findings
	if status.Refused != nil {
		all = append(slices.Clone(all), status.Refused.Findings...)
	}
	for _, r := range recorders {
		all = append(all, r.findings...)
		maps.Copy(a.silenced, r.silenced)
		a.documents += r.documents
		for p := range r.places {
			files[p.file] = true
		}
	}
	a.files = len(files)
	a.findings = sorted(all)
	return a, nil
}

// sorted orders findings by place, each once.
func sorted(all []config.Finding) []config.Finding {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b config.Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(b.Level, a.Level), strings.Compare(a.Code, b.Code), strings.Compare(a.Path, b.Path),
			strings.Compare(a.Message, b.Message))
	})
	return slices.Compact(all)
}

// A recorder passes on what a source says and notes it, with what was said of each document. Of a refused
// set the status has the refusals only, and warnings are worth knowing then too.
type recorder struct {
	source    config.Source
	findings  []config.Finding
	documents int
	places    map[place]bool
	silenced  map[config.Key][]string
}

type place struct {
	file     string
	document int
}

// Run implements config.Source.
func (r *recorder) Run(ctx context.Context, apply func(config.Update) []config.Verdict) error {
	return r.source.Run(ctx, func(u config.Update) []config.Verdict {
		verdicts := apply(u)
		for i := range u.Upsert {
			r.places[place{u.Upsert[i].Origin.File, u.Upsert[i].Origin.Document}] = true
			if codes := u.Upsert[i].Suppressed(); codes != nil {
				r.silenced[u.Upsert[i].Key] = codes
			}
		}
		r.documents += len(u.Upsert) // a List is as many as it has items
		for _, f := range u.Findings {
			p := place{f.File, f.Document}
			if f.Line == 0 || r.places[p] { // without a line it is about a path
				continue
			}
			r.places[p] = true
			if f.Document > 0 { // 0: a text that cannot even be split into documents
				r.documents++
			}
		}
		r.findings = append(r.findings, u.Findings...)
		for _, v := range verdicts {
			r.findings = append(r.findings, v.Findings...)
		}
		return verdicts
	})
}

// unreadable reports a finding about a file that could not be read or is not YAML: one that refuses and has
// neither a document to name nor a field.
func unreadable(f config.Finding) bool {
	return f.Refused && f.Level == config.Error && f.File != "" && f.Kind == "" && f.Path == ""
}

// exitCode says how findings end the program: those that refuse the set always as findings do, others from
// the threshold on.
func exitCode(findings []config.Finding, threshold config.Level) int {
	code := exitOK
	for _, f := range findings {
		switch {
		case unreadable(f):
			return exitInput
		case f.Refused || f.Level >= threshold:
			code = exitFindings
		}
	}
	return code
}
