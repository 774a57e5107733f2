package main

import (
	"bytes"
	"strings"
	"sync"
)

const keptLines = 2000

// lines are the last that a program has written. They are safe for concurrent use.
type lines struct {
	mu   sync.Mutex // guards what follows
	ring []string
	next int
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < keptLines {
		l.ring = append(l.ring, line)
		return
	}
	l.ring[l.next] = line
	l.next = (l.next + 1) % keptLines
}

// all gives them, the oldest first.
func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(append([]string{}, l.ring[l.next:]...), l.ring[:l.next]...)
}

// A lineWriter hands on what is written to it line by line. One goroutine writes.
type lineWriter struct {
	line    func(string)
	pending []byte
}

const longestLine = 16 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		w.pending = append(w.pending, line[:min(len(line), longestLine-len(w.pending))]...)
		if !ended {
			return n, nil
		}
		w.line(string(bytes.TrimSuffix(w.pending, []byte("\r"))))
		w.pending, p = w.pending[:0], rest
	}
}

// audible reports whether a line on an instance's stderr is for our own too. They all read the same directory,
// so that one of them, the voice, speaks for the mesh; of the others it is what their programs say themselves.
func audible(line string, voice bool) bool {
	_, rest, log := strings.Cut(line, " level=")
	switch log = log && strings.HasPrefix(line, "time="); {
	case !log:
		return !strings.HasPrefix(line, "Picked up JAVA_TOOL_OPTIONS") // a JVM's greeting
	case !voice:
		return false
	}
	return !strings.HasPrefix(rest, "INFO") || strings.HasPrefix(rest, `INFO msg="mesh configuration`)
}
