package transport

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/heddlemesh/mesh/transport/http1"
)

// errAnswered is what an answer gives after its handler has returned.
var errAnswered = errors.New("http: response written to after its handler has returned")

// errShortAnswer is why a connection ends whose answer is shorter than it was said to be.
var errShortAnswer = errors.New("http: response shorter than its Content-Length")

// Write implements io.Writer.
func (w *codecWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.admit(len(p)); err != nil || len(p) == 0 {
		return 0, err
	}
	limit := measuredBytes
	if w.state == answerHeaded {
		limit = pendingBytes
	}
	if w.n+len(p) <= limit {
		if w.pending == nil {
			w.pending = pendings.Get().(*[pendingBytes]byte)
		}
		w.n += copy(w.pending[w.n:], p)
		return len(p), nil
	}
	if w.n > 0 { // what is small goes together
		n := copy(w.pending[w.n:], p)
		w.n += n
		if err := w.flush(); err != nil {
			return 0, err
		}
		if n == len(p) {
			return n, nil
		}
		m, err := w.send(p[n:])
		return n + m, err
	}
	return w.send(p)
}

// WriteString implements io.StringWriter.
func (w *codecWriter) WriteString(s string) (int, error) {
	return w.Write(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// admit makes sure that n bytes may be part of the answer, and counts them.
func (w *codecWriter) admit(n int) error {
	switch w.state {
	case answerHijacked:
		return http.ErrHijacked
	case answerOver:
		return errAnswered
	case answerOpen:
		w.start(http.StatusOK)
	case answerBegun, answerHeaded:
	}
	switch {
	case n == 0:
		return nil
	case !w.bodied():
		return http.ErrBodyNotAllowed
	case w.length >= 0 && w.written+int64(n) > w.length:
		return http.ErrContentLength
	}
	w.written += int64(n)
	return nil
}

// flush sends what is pending, with the head where that has not gone.
func (w *codecWriter) flush() error {
	p := w.taken()
	w.n = 0
	if len(p) == 0 && w.state == answerHeaded {
		return w.s.w.Flush()
	}
	_, err := w.send(p)
	if err == nil {
		err = w.s.w.Flush()
	}
	return err
}

func (w *codecWriter) taken() []byte {
	if w.pending == nil {
		return nil
	}
	return w.pending[:w.n]
}

// send sends bytes of the body.
func (w *codecWriter) send(p []byte) (int, error) {
	if w.state != answerHeaded {
		w.complete(p, false)
	}
	if w.req.Method == http.MethodHead {
		return len(p), nil
	}
	return w.s.w.Write(p)
}

// Flush implements http.Flusher.
func (w *codecWriter) Flush() { _ = w.FlushError() }

// FlushError is Flush for http.ResponseController.
func (w *codecWriter) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.admit(0); err != nil {
		return err
	}
	return w.flush()
}

var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadFrom implements io.ReaderFrom: the rest of a body of known length goes to the socket as its own ReadFrom does it, which
// for a file is sendfile.
func (w *codecWriter) ReadFrom(src io.Reader) (n int64, err error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	socket, ok := w.s.nc.(io.ReaderFrom)
	if !ok || w.req.Method == http.MethodHead || !fromKernel(src) {
		return io.CopyBuffer(onlyWriter{w}, src, buf[:])
	}
	// The head needs the beginning, and must not go before there is one.
	n, err = io.CopyBuffer(onlyWriter{w}, io.LimitReader(src, sniffedBytes), buf[:])
	if err != nil || n < sniffedBytes {
		return n, err
	}
	m, err := w.splice(socket, src)
	n += m
	if err != nil {
		return n, err
	}
	m, err = io.CopyBuffer(onlyWriter{w}, src, buf[:])
	return n + m, err
}

// splice has the socket read what the body has left.
func (w *codecWriter) splice(socket io.ReaderFrom, src io.Reader) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.admit(0); err != nil {
		return 0, err
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	direct := w.s.w.Direct()
	if direct <= 0 {
		return 0, nil
	}
	limited, ok := src.(*io.LimitedReader) // net looks through one, not through two
	if !ok || limited.N > direct {
		limited = &io.LimitedReader{R: src, N: direct}
	}
	n, err := socket.ReadFrom(limited)
	w.written += n
	return n, errors.Join(err, w.s.w.Took(n))
}

// sniffedBytes is what http.DetectContentType looks at.
const sniffedBytes = 512

// fromKernel reports a source that the kernel may copy from by itself.
func fromKernel(src io.Reader) bool {
	if limited, ok := src.(*io.LimitedReader); ok {
		src = limited.R
	}
	switch src.(type) {
	case *os.File, *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// An onlyWriter hides ReadFrom from io.Copy.
type onlyWriter struct{ io.Writer }

// Hijack implements http.Hijacker.
func (w *codecWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.state {
	case answerHijacked:
		return nil, nil, http.ErrHijacked
	case answerOver:
		return nil, nil, errAnswered
	case answerBegun, answerHeaded:
		if err := w.flush(); err != nil {
			return nil, nil, err
		}
	case answerOpen:
	}
	s := w.s
	w.state = answerHijacked
	w.body.end(s)
	s.given = true
	s.watch(nil, nil)
	s.reading.Disarm()
	s.w.Release()
	buffered := len(s.conn.Buffered())
	r := bufio.NewReader(s.conn.Detach())
	_, _ = r.Peek(min(buffered, r.Size())) // so that Buffered tells what is there
	_ = s.nc.SetDeadline(time.Time{})
	s.line.codec.srv.ConnState(s.nc, http.StateHijacked)
	return s.nc, bufio.NewReadWriter(r, bufio.NewWriter(s.nc)), nil
}

// SetReadDeadline is that of http.ResponseController, as are SetWriteDeadline and EnableFullDuplex.
func (w *codecWriter) SetReadDeadline(t time.Time) error { return w.bound(t, net.Conn.SetReadDeadline) }

// SetWriteDeadline bounds what is written from now on.
func (w *codecWriter) SetWriteDeadline(t time.Time) error {
	return w.bound(t, net.Conn.SetWriteDeadline)
}

// bound does not wait for a Write that is under way: it may be there to end it.
func (w *codecWriter) bound(t time.Time, set func(net.Conn, time.Time) error) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.cancel == nil || w.s.writer != w {
		return errAnswered
	}
	w.s.deadline = true
	return set(w.s.nc, t)
}

// EnableFullDuplex lets the handler read the body after the answer has begun.
func (w *codecWriter) EnableFullDuplex() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.duplex = true
	return nil
}

// finish ends the answer when the handler has returned, or has not: done is false. It reports whether another request may
// follow.
func (w *codecWriter) finish(done bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	hijacked := w.state == answerHijacked
	if !hijacked && done {
		done = w.last() == nil
	}
	w.state = answerOver
	if w.pending != nil {
		pendings.Put(w.pending)
		w.pending = nil
	}
	if hijacked {
		return false
	}
	if !done {
		w.body.end(w.s)
		return false
	}
	if w.duplex && !w.closing {
		w.closing = !w.body.drain(w.s)
	}
	read := w.body.end(w.s)
	if w.closing && (!read || len(w.s.conn.Buffered()) > 0) {
		w.s.linger()
	}
	return !w.closing && read
}

// last sends the end of the answer.
func (w *codecWriter) last() error {
	if w.state == answerOpen {
		w.start(http.StatusOK)
	}
	if w.state != answerHeaded {
		w.complete(w.taken(), true)
	}
	if w.length > w.written && w.bodied() && w.req.Method != http.MethodHead {
		return errors.Join(w.flush(), errShortAnswer)
	}
	if w.chunked {
		w.trailers()
	}
	p := w.taken()
	w.n = 0
	if w.req.Method == http.MethodHead {
		p = nil
	}
	return w.s.w.Finish(p)
}

// trailers writes the trailer fields: those that were announced, and those that http.TrailerPrefix marks.
func (w *codecWriter) trailers() {
	for _, name := range w.announced {
		w.trailer(name, w.header[name])
	}
	for name, values := range w.header {
		if late, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			w.trailer(late, values)
		}
	}
}

func (w *codecWriter) trailer(name string, values []string) {
	if !http1.IsTrailerName(name) {
		return
	}
	for _, v := range values {
		w.s.w.Trailer(name, fieldValue(v))
	}
}
