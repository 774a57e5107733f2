package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// The times of WatchPaths.
const (
	quietTime = 100 * time.Millisecond // how long nothing must have changed
	mostDelay = time.Second            // after which files that never come to rest are read all the same
	pollEvery = 10 * time.Second       // beside notifications
	pollAlone = 2 * time.Second        // where there are none, or not for all
)

// WatchPaths is [FromPaths] that goes on: after its first update it sends a Full update for every change,
// until ctx ends, and then returns nil. It sees files written in place and replaced by a rename, the swap of
// the ..data link of a mounted ConfigMap, new and removed files and subdirectories, permissions, and the
// watched path itself moved, removed and made again. A path that is gone or cannot be read refuses the
// update, so that what was live stays so, until it is back. Relative paths are those of the moment Run begins.
//
// Changes are read once nothing has changed for 100 ms, or after a second in which something always did: a
// file is normally not seen half written. Where it is, it is refused or not like any other, and the rest of
// it makes the next update. What is byte for byte what was applied last, accepted or refused, is not applied
// again. Of unchanged documents not even the YAML is parsed again.
//
// The operating system tells of changes (inotify, kqueue, ReadDirectoryChangesW). Beside it, every 10 s, sizes
// and times of files are compared, for file systems that tell nothing and for directories renamed further up.
// Where the system has no notifications left to give (inotify's limits, EMFILE, ENOSPC), they are compared
// every 2 s and notifications are asked for anew each time.
//
// No goroutine and no file is left when Run returns. Safe for concurrent use; every Run stands for itself.
func WatchPaths(paths ...string) *PathWatch {
	return &PathWatch{paths: slices.Clone(paths), open: fsnotify.NewWatcher}
}

// A PathWatch is what WatchPaths gives.
type PathWatch struct {
	paths []string
	open  func() (*fsnotify.Watcher, error)

	mu   sync.Mutex // guards what follows
	runs map[*pathRun]struct{}
}

// A pathRun is one Run under way.
type pathRun struct {
	again chan chan struct{} // asks for everything to be read at once; what it is given is closed then
	ended chan struct{}
}

// Reload has everything read again at once, whether or not a change was told of. It returns when what was found is live or refused,
// or ctx has ended.
func (s *PathWatch) Reload(ctx context.Context) error {
	s.mu.Lock()
	runs := slices.Collect(maps.Keys(s.runs))
	s.mu.Unlock()
	for _, r := range runs {
		done := make(chan struct{})
		select {
		case r.again <- done:
			<-done
		case <-r.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *PathWatch) begin() *pathRun {
	r := &pathRun{again: make(chan chan struct{}), ended: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs == nil {
		s.runs = make(map[*pathRun]struct{})
	}
	s.runs[r] = struct{}{}
	return r
}

func (s *PathWatch) end(r *pathRun) {
	close(r.ended)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.runs, r)
}

// A watchedPath is a path as findings show it and as it is read.
type watchedPath struct{ shown, path string }

// Run implements Source.
func (s *PathWatch) Run(ctx context.Context, apply func(Update) []Verdict) error {
	run := s.begin()
	defer s.end(run)
	paths := make([]watchedPath, len(s.paths))
	for i, p := range s.paths {
		paths[i] = watchedPath{p, p}
		if abs, err := filepath.Abs(p); err == nil && p != "" {
			paths[i].path = abs
		}
	}
	n := newNotices(s.open)
	defer n.close()
	known := newParsedSections()
	var last [sha256.Size]byte // no update has this sum
	var asked chan struct{}    // by Reload
	for ctx.Err() == nil {
		// Watched before read: what changes in between is told of.
		seen := takeSurvey(n, paths)
		u := readPaths(paths, known)
		if sum := fingerprint(u); sum != last {
			last = sum
			apply(u)
		}
		if asked != nil {
			close(asked)
		}
		asked = awaitChange(ctx, n, paths, seen, run.again)
	}
	if asked != nil {
		close(asked)
	}
	return nil
}

func readPaths(paths []watchedPath, known *parsedSections) Update {
	c := collection{known: known}
	for _, p := range paths {
		c.path(p.shown, p.path)
	}
	known.forget()
	return c.update()
}

// fingerprint tells updates apart by the documents, their places, and what was met on the way.
func fingerprint(u Update) (sum [sha256.Size]byte) {
	h := sha256.New()
	for i := range u.Upsert {
		fmt.Fprintf(h, "%s %q\n", u.Upsert[i].Version, u.Upsert[i].Key)
	}
	for _, f := range u.Findings {
		fmt.Fprintf(h, "%t %s\n", f.Refused, f)
	}
	h.Sum(sum[:0])
	return sum
}

// awaitChange returns when something has changed and come to rest, or ctx has ended, and with what again gives as soon as that does.
func awaitChange(ctx context.Context, n *notices, paths []watchedPath, seen survey, again <-chan chan struct{}) chan struct{} {
	for {
		poll := time.NewTimer(n.interval())
		select {
		case <-ctx.Done():
			poll.Stop()
			return nil
		case asked := <-again:
			poll.Stop()
			return asked
		case <-n.dirty:
			poll.Stop()
			return settle(ctx, n.dirty, again)
		case <-poll.C:
		}
		now := takeSurvey(n, paths)
		if !now.differs(seen) && !seen.recent() {
			continue
		}
		// Nobody tells when the writing is over, so one has to look.
		for begin := now.taken; now.differs(seen) && now.taken.Sub(begin) < mostDelay && ctx.Err() == nil; {
			if asked := settle(ctx, n.dirty, again); asked != nil {
				return asked
			}
			seen, now = now, takeSurvey(n, paths)
		}
		return nil
	}
}

// settle waits until nothing has been told of for quietTime, but not longer than mostDelay, and not when again asks.
func settle(ctx context.Context, dirty <-chan struct{}, again <-chan chan struct{}) chan struct{} {
	quiet, most := time.NewTimer(quietTime), time.NewTimer(mostDelay)
	defer quiet.Stop()
	defer most.Stop()
	for {
		select {
		case <-dirty:
			quiet.Reset(quietTime)
		case asked := <-again:
			return asked
		case <-quiet.C:
			return nil
		case <-most.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}
