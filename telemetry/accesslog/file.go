package accesslog

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// mostBuffered is how much waits to be written to one file, in bytes; lines beyond it are dropped.
	mostBuffered = 1 << 20
	// writeEvery is how long lines are gathered once one has been written: under load they go out together.
	writeEvery = 100 * time.Millisecond
	// flushTime is how long the end waits for a file that does not take what is left.
	flushTime = 2 * time.Second
)

// A file is written to by one goroutine of its own, which lives until close. It is safe for concurrent use.
type file struct {
	path    string
	dropped atomic.Uint64 // lines
	written atomic.Uint64

	mu     sync.Mutex // guards what follows
	buffer []byte     // what waits
	lines  uint64     // in it
	spare  []byte     // what was written last, to be used again
	closed bool

	wake chan struct{} // of one
	stop chan struct{} // closed at the end
	done chan struct{} // closed when all is written
	own  io.Writer     // what is written to in the place of the file, nil for that
	out  *os.File      // the goroutine's, as what follows
	torn bool          // the last line that is in it is not whole
}

// openFile makes a file that is opened when there is something to write, or what stands for it.
func openFile(path string, own io.Writer) *file {
	f := &file{path: path, own: own, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go f.run()
	return f
}

// add takes a line, or drops it where there is no room. It does not wait.
func (f *file) add(line []byte) {
	f.mu.Lock()
	if f.closed || len(f.buffer)+len(line) > mostBuffered {
		f.mu.Unlock()
		f.dropped.Add(1)
		return
	}
	first := len(f.buffer) == 0
	f.buffer = append(f.buffer, line...)
	f.lines++
	f.mu.Unlock()
	if first {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

func (f *file) run() {
	defer close(f.done)
	gather := time.NewTimer(0)
	defer gather.Stop()
	<-gather.C
	for ended := false; !ended; {
		select {
		case <-f.wake:
		case <-f.stop:
			ended = true
		}
		f.write()
		gather.Reset(writeEvery)
		select {
		case <-gather.C:
		case <-f.stop:
			ended = true
			f.write()
		}
	}
	f.shut()
}

// write writes what waits. Where that fails the lines are lost, and counted; the file is opened anew the next time.
func (f *file) write() {
	f.mu.Lock()
	buffer, lines := f.buffer, f.lines
	f.buffer, f.lines, f.spare = f.spare[:0], 0, nil
	f.mu.Unlock()
	if lines > 0 {
		kept, err := f.put(buffer, lines)
		f.written.Add(kept)
		f.dropped.Add(lines - kept)
		if err != nil {
			f.shut()
		}
	}
	f.mu.Lock()
	f.spare = buffer
	f.mu.Unlock()
}

// put writes lines, and gives how many of them are whole. Where a disk is full one can be there in part: what follows is another line
// all the same.
func (f *file) put(buffer []byte, lines uint64) (whole uint64, err error) {
	to, err := f.reopen()
	if err == nil && f.torn {
		_, err = to.Write([]byte{'\n'})
	}
	if err != nil {
		return 0, err
	}
	f.torn = false
	n, err := to.Write(buffer)
	if err == nil {
		return lines, nil
	}
	f.torn = n > 0 && buffer[n-1] != '\n'
	return min(uint64(bytes.Count(buffer[:n], []byte{'\n'})), lines), err
}

// reopen opens the file where it is not open, or where its name is another file's by now: who has it turned over renames it.
func (f *file) reopen() (to io.Writer, err error) {
	if f.own != nil {
		return f.own, nil
	}
	if f.out != nil {
		named, err := os.Stat(f.path)
		if err == nil {
			var open os.FileInfo
			if open, err = f.out.Stat(); err == nil && os.SameFile(named, open) {
				return f.out, nil
			}
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return f.out, nil // there may be no right to look; what is open can be written to
		}
		f.shut()
	}
	f.out, err = os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640) //nolint:gosec // G302: who ships logs reads them by its group
	return f.out, err
}

func (f *file) shut() {
	if f.out != nil {
		_ = f.out.Close() // what it says is too late to act on
	}
	f.out = nil
}

// close writes what waits and ends the goroutine. Lines that come later are dropped. A file that takes nothing, a pipe that
// nobody reads, is waited for a moment only.
func (f *file) close() {
	f.mu.Lock()
	closed := f.closed
	f.closed = true
	f.mu.Unlock()
	if !closed {
		close(f.stop)
	}
	late := time.NewTimer(flushTime)
	defer late.Stop()
	select {
	case <-f.done:
	case <-late.C:
	}
}
