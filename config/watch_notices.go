package config

import (
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// notices asks the operating system for word of changes in directories and passes on that something changed
// which matters. Only dirty and the filter are shared with its goroutine.
type notices struct {
	dirty chan struct{} // holds a value after a change

	open     func() (*fsnotify.Watcher, error)
	watcher  *fsnotify.Watcher // nil while none can be had
	complete bool              // every directory of the last survey is watched
	pumped   sync.WaitGroup

	mu        sync.Mutex
	now, next map[string]*interest // by directory; next while a survey is under way
	// stale says that directories have moved or gone. fsnotify knows them by the names they had, and would
	// take one for the other: it is then begun anew.
	stale bool
}

// interest is what matters of one directory's entries.
type interest struct {
	all   bool            // documents, and anything that comes, goes or changes its name or permissions
	names map[string]bool // these in any case
}

func newNotices(open func() (*fsnotify.Watcher, error)) *notices {
	return &notices{dirty: make(chan struct{}, 1), open: open}
}

func (n *notices) close() {
	if n.watcher != nil {
		_ = n.watcher.Close()
		n.watcher = nil
	}
	n.pumped.Wait()
}

// interval is how long to go without a look of our own.
func (n *notices) interval() time.Duration {
	if n.complete {
		return pollEvery
	}
	return pollAlone
}

// begin starts a survey. Until end, what mattered before and what matters from now on both count.
func (n *notices) begin() {
	n.mu.Lock()
	stale := n.stale
	n.stale = false
	n.next = make(map[string]*interest)
	n.mu.Unlock()
	if stale {
		n.close()
	}
	if n.watcher == nil {
		if w, err := n.open(); err == nil {
			n.watcher = w
			n.pumped.Go(func() { n.pump(w) })
		}
	}
	n.complete = n.watcher != nil
}

// want has changes of the named entry of a directory told of, of all that may matter where name is "".
func (n *notices) want(dir, name string) {
	n.mu.Lock()
	i := n.next[dir]
	first := i == nil
	if first {
		i = &interest{names: make(map[string]bool)}
		n.next[dir] = i
	}
	i.all = i.all || name == ""
	i.names[name] = true
	n.mu.Unlock()
	// A directory that is watched already is asked for again: another may stand in its place.
	if first && n.watcher != nil && n.watcher.Add(dir) != nil {
		n.complete = false
	}
}

// end gives up what no longer matters. Directories that are watched for nothing make another survey.
func (n *notices) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for dir := range n.now {
		if n.next[dir] == nil {
			n.stale = true
			n.mark()
		}
	}
	n.now, n.next = n.next, nil
}

// pump reads what the watcher says without ever waiting for anybody: fsnotify holds its lock in places where
// it reports errors, so that one who calls Add must not be the one who reads.
func (n *notices) pump(w *fsnotify.Watcher) {
	events, errs := w.Events, w.Errors
	for events != nil || errs != nil {
		select {
		case e, open := <-events:
			if !open {
				events = nil
			} else if n.matters(e) {
				n.mark()
			}
		case _, open := <-errs:
			if !open {
				errs = nil
			} else {
				n.mu.Lock()
				n.stale = true // an overflow, as a rule: something was not told
				n.mu.Unlock()
				n.mark()
			}
		}
	}
}

func (n *notices) mark() {
	select {
	case n.dirty <- struct{}{}:
	default:
	}
}

func (n *notices) matters(e fsnotify.Event) bool {
	dir, name := filepath.Dir(e.Name), filepath.Base(e.Name)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range [...]map[string]*interest{n.now, n.next} {
		if m[e.Name] != nil { // the directory itself
			n.stale = n.stale || e.Has(fsnotify.Rename|fsnotify.Remove|fsnotify.Create)
			return true
		}
		i := m[dir]
		switch {
		case i == nil:
		case i.names[name]:
			return true
		case !i.all || strings.HasPrefix(name, "."):
		case isDocumentFile(name) || e.Op != fsnotify.Write:
			return true
		}
	}
	return false
}
