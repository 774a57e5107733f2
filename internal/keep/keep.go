// Package keep has a configuration survive its sources: the documents that were taken last stand in a file, and a program that starts while
// its sources are away, or have what cannot be taken, starts by them.
//
//	store := keep.Open("/var/lib/heddle", report)
//	m, err := mesh.New(ctx, mesh.WithSource(store.Behind(config.WatchPaths("mesh.d"))))
//
// It keeps documents, not what they are compiled to: whoever reads them decides by today's rules, and refuses what it does not
// understand. Nothing of an identity is in the file. Layer L6.
package keep

import (
	"context"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/config"
)

// An Event is something that people should hear of.
type Event struct {
	Path string
	// Written is when the configuration was kept by which the program starts; zero for other events.
	Written time.Time
	Why     error // why it starts by that, or what is wrong with the file or with writing it
}

// A Store is one snapshot file. It is safe for concurrent use.
type Store struct {
	dir    string
	report func(Event)

	mu     sync.Mutex // guards what follows, and writing
	broken bool       // the last write failed
}

// Open gives the store of a directory, which is made where it is missing, for this user alone. report hears of what is wrong, one
// call at a time; nothing of it ends the program.
func Open(dir string, report func(Event)) *Store { return &Store{dir: dir, report: report} }

// Behind gives a source that brings what s brings and keeps each full update of it that was taken. At the start, where that is refused or
// empty, it has in reserve what was kept.
func (k *Store) Behind(s config.Source) config.Keeper { return &kept{Source: s, store: k} }

type kept struct {
	config.Source
	store *Store
}

// Run implements config.Source.
func (s *kept) Run(ctx context.Context, apply func(config.Update) []config.Verdict) error {
	first := true
	return s.Source.Run(ctx, func(u config.Update) []config.Verdict {
		if first {
			first = false
			u = s.store.doubt(u)
		}
		verdicts := apply(u)
		if u.Full && taken(verdicts) {
			s.store.save(u.Upsert)
		}
		return verdicts
	})
}

// Kept implements config.Keeper.
func (s *kept) Kept(refused *config.ConfigError) (config.Update, bool) {
	documents, written, err := s.store.load()
	if err != nil {
		s.store.report(Event{Path: s.store.path(), Why: err})
		return config.Update{}, false
	}
	s.store.report(Event{Path: s.store.path(), Written: written, Why: refused})
	return config.Update{Upsert: documents, Full: true}, true
}

// doubt refuses a first update without any document where some are kept: what mounts them has not done so yet, and a
// configuration of nothing lets everybody in.
func (k *Store) doubt(u config.Update) config.Update {
	if !u.Full || len(u.Upsert) > 0 {
		return u
	}
	if documents, _, err := k.load(); err != nil || len(documents) == 0 {
		return u
	}
	u.Findings = append(u.Findings, config.Finding{Code: "HDL0005", Level: config.Error, Refused: true, File: k.path(),
		Message: "there is no configuration, and there was one when it was kept", Hint: "remove the file where none is meant"})
	return u
}

func taken(verdicts []config.Verdict) bool {
	for _, v := range verdicts {
		if !v.Accepted {
			return false
		}
	}
	return true
}

// save keeps documents. That it fails is told once, until it succeeds again.
func (k *Store) save(documents []config.Resource) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.write(encode(documents, time.Now()))
	if err != nil && !k.broken {
		k.report(Event{Path: k.path(), Why: err})
	}
	k.broken = err != nil
}

func (k *Store) load() ([]config.Resource, time.Time, error) {
	text, err := k.read()
	if err != nil {
		return nil, time.Time{}, err
	}
	return decode(text)
}
