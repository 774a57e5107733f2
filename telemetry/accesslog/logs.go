package accesslog

import (
	"io"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/heddlemesh/mesh/telemetry"
)

// A Plan says what of calls and of requests that come in is logged, by reporter. It is immutable.
type Plan [2][]Output

// An Output is one log.
type Output struct {
	Path   string // of a file
	Format *Format
	Filter *Filter // nil for all
}

// Logs are the logs of a mesh: a program's own Logger, and files by a [Plan]. It is safe for concurrent use.
type Logs struct {
	own     Logger               // nil for none
	streams map[string]io.Writer // what is written to in the place of files
	outputs atomic.Pointer[[2][]output]
	answers atomic.Bool

	mu     sync.Mutex // guards what follows, and outputs for writing
	files  map[string]*file
	gone   FileCounts // what files that are closed have counted
	closed bool
}

type output struct {
	Output
	to *file
}

// New makes logs that go to own, where that is not nil, and from the first Set on to files. Close ends them. What is for a file
// that streams names goes there; each is written to by one goroutine at a time and not closed.
func New(own Logger, streams map[string]io.Writer) *Logs {
	l := &Logs{own: own, streams: streams, files: make(map[string]*file)}
	l.outputs.Store(new([2][]output))
	l.answers.Store(own != nil)
	return l
}

// Set says what is logged from now on, in the place of what was; nil is nothing in files. A file that goes on goes on as it is.
func (l *Logs) Set(p *Plan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	var next [2][]output
	kept, answers := make(map[string]*file), l.own != nil
	if p != nil {
		for side, all := range p {
			for _, o := range all {
				f := kept[o.Path]
				if f == nil {
					f = l.files[o.Path]
				}
				if f == nil {
					f = openFile(o.Path, l.streams[o.Path])
				}
				kept[o.Path] = f
				next[side] = append(next[side], output{o, f})
				answers = answers || o.Format.answer || o.Filter != nil && o.Filter.answer
			}
		}
	}
	had := l.files
	l.files = kept
	l.answers.Store(answers)
	l.outputs.Store(&next)
	for path, f := range had {
		if kept[path] != f {
			l.end(f)
		}
	}
}

// end closes a file and keeps its counts. l.mu is held.
func (l *Logs) end(f *file) {
	f.close()
	l.gone.Written += f.written.Load()
	l.gone.Dropped += f.dropped.Load()
}

// On reports whether anybody hears of entries of the reporter.
func (l *Logs) On(r telemetry.Reporter) bool {
	return l != nil && (l.own != nil || len(l.outputs.Load()[r]) > 0)
}

// Answers reports whether anybody asks for fields of an answer's header or trailer.
func (l *Logs) Answers() bool { return l.answers.Load() }

var lines = sync.Pool{New: func() any { return new([]byte) }}

const keptLine = 16 << 10

// Log tells whoever hears of it.
func (l *Logs) Log(e *Entry) {
	if l.own != nil {
		l.own.Log(e)
	}
	outputs := l.outputs.Load()[e.Reporter]
	for i := range outputs {
		o := &outputs[i]
		if !o.Filter.Match(e) {
			continue
		}
		b := lines.Get().(*[]byte)
		*b = o.Format.Append((*b)[:0], e)
		o.to.add(*b)
		if cap(*b) <= keptLine {
			lines.Put(b)
		}
	}
}

// FileCounts says how a file fares; Path is "" for those that are closed, together.
type FileCounts struct {
	Path    string `json:"path,omitempty"`
	Written uint64 `json:"written"` // lines
	Dropped uint64 `json:"dropped"` // lines for which there was no room, or that could not be written
}

// Counts lists the files, by name, those that are closed first.
func (l *Logs) Counts() []FileCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []FileCounts
	if l.gone.Written+l.gone.Dropped > 0 {
		all = append(all, l.gone)
	}
	for path, f := range l.files {
		all = append(all, FileCounts{path, f.written.Load(), f.dropped.Load()})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Path < all[j].Path }) // not slices.SortFunc: 8 KB more of every program
	return all
}

// Close writes what waits and ends the files; what comes later is dropped. A file that takes nothing is waited for two seconds.
func (l *Logs) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.outputs.Store(new([2][]output))
	for _, f := range l.files {
		l.end(f)
	}
	clear(l.files)
}
