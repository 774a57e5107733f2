package transport

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"time"
)

// inMemory reports a body that gives all it has without waiting.
func inMemory(body io.Reader) bool {
	_, is := memorySize(body)
	return is
}

// memorySize gives how long a body in memory is, of which nothing was read for this attempt; ok is false for others.
func memorySize(body io.Reader) (n int64, ok bool) {
	switch b := body.(type) {
	case *bytes.Reader:
		return int64(b.Len()), true
	case *bytes.Buffer:
		return int64(b.Len()), true
	case *strings.Reader:
		return int64(b.Len()), true
	case *replayBody:
		return b.replay.memorySize()
	case *teeBody:
		return memorySize(b.ReadCloser)
	}
	// What http.NewRequest makes of a reader is of types that only reflection sees through.
	if v := reflect.ValueOf(body); v.Type() == noCloser || v.Type() == noCloserWriterTo {
		if inner, ok := v.Field(0).Interface().(io.Reader); ok {
			return memorySize(inner)
		}
	}
	return 0, false
}

var (
	noCloser         = reflect.TypeOf(io.NopCloser(struct{ io.Reader }{}))
	noCloserWriterTo = reflect.TypeOf(io.NopCloser(new(bytes.Reader)))
)

// probe finds out whether a body of unknown length is empty, for methods that seldom have one: net/http sends such a
// request without a body, and servers do not expect one. It does not wait long.
func (s *sending) probe() {
	first := &firstByte{body: s.body, read: make(chan struct{})}
	if inMemory(s.body) {
		first.run()
	} else {
		go first.run()
	}
	t := time.NewTimer(probeFor)
	defer t.Stop()
	select {
	case <-first.read:
		if first.n == 0 && errors.Is(first.err, io.EOF) {
			_ = s.body.Close()
			s.body = nil
			return
		}
	case <-t.C:
	case <-s.ctx.Done():
	}
	s.body = first
}

const probeFor = 200 * time.Millisecond

// A firstByte is a body whose first byte is read ahead.
type firstByte struct {
	body io.ReadCloser
	read chan struct{} // closed when what follows is there
	b    [1]byte
	n    int
	err  error
	done bool // it was passed on
}

func (f *firstByte) run() {
	defer close(f.read)
	f.n, f.err = io.ReadFull(f.body, f.b[:])
}

// Read implements io.Reader.
func (f *firstByte) Read(p []byte) (int, error) {
	if f.done {
		return f.body.Read(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	<-f.read
	f.done = true
	return copy(p, f.b[:f.n]), f.err
}

// Close implements io.Closer.
func (f *firstByte) Close() error { return f.body.Close() }
