package http1

import (
	"io"
	"strconv"
)

// lastChunk ends a chunk's data and then the body (RFC 9112 §7.1). Trailer fields go before its last line.
const lastChunk = "\r\n0\r\n\r\n"

// These are written from and never to.
var (
	chunkEnd = []byte("\r\n")
	bodyEnd  = []byte(lastChunk)
)

// Write sends bytes of the body, framed, together with the head where that has not gone yet, in one system call on TCP
// and Unix connections. Where no body can follow, and beyond the length of a Sized one, it is an error. It gives the bytes of p
// that were sent.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.admit(p); err != nil || len(p) == 0 {
		return 0, err
	}
	if w.framing == Chunked {
		w.chunk(len(p))
		return w.send(p, chunkEnd)
	}
	return w.send(p, nil)
}

// Finish sends the last bytes of the body, which may be none, and the end of the message, in one system call as Write
// does. A Sized body must then be complete.
func (w *Writer) Finish(last []byte) error {
	if err := w.admit(last); err != nil {
		return err
	}
	var end []byte
	switch {
	case w.framing == Sized && w.left > 0:
		w.fail(errWriteShort)
		return w.err
	case w.framing == Chunked:
		end = w.end(len(last) == 0)
		if len(last) > 0 {
			w.chunk(len(last))
		}
	}
	_, err := w.send(last, end)
	w.state = betweenMessages
	putBuffer(w.late)
	w.late, w.endN = nil, 0
	return err
}

// Flush sends the head if it has not gone yet.
func (w *Writer) Flush() error {
	if err := w.ended(); err != nil {
		return err
	}
	_, err := w.send(nil, nil)
	return err
}

// Direct gives how many bytes of the body may now be written to the net.Conn itself, past this Writer (splice): the rest
// of a Sized body, -1 for any number in an UntilClose body, otherwise 0. It is 0 until the head is flushed.
func (w *Writer) Direct() int64 {
	switch {
	case w.err != nil || w.state != inBody || w.n > 0:
		return 0
	case w.framing == Sized:
		return w.left
	case w.framing == UntilClose:
		return -1
	}
	return 0
}

// Took tells that n bytes of the body were written past this Writer, at most Direct.
func (w *Writer) Took(n int64) error {
	if n < 0 || w.Direct() >= 0 && n > w.Direct() {
		w.fail(errWriteLong)
		return w.err
	}
	if w.framing == Sized {
		w.left -= n
	}
	w.sent += n
	return nil
}

// admit makes sure that p may be part of the body, and counts it.
func (w *Writer) admit(p []byte) error {
	if err := w.ended(); err != nil {
		return err
	}
	switch {
	case w.framing == NoBody && len(p) > 0:
		w.fail(errWriteBody)
	case w.framing == Sized && int64(len(p)) > w.left:
		w.fail(errWriteLong)
	case w.framing == Sized:
		w.left -= int64(len(p))
	}
	return w.err
}

// chunk puts the line before n bytes of data.
func (w *Writer) chunk(n int) {
	if w.room(16 + 2) {
		w.n = len(strconv.AppendUint(w.buf.b[:w.n], uint64(n), 16))
		w.put("\r\n")
	}
}

// end gives what follows the last data of a chunked body. Without data there is no chunk to end first.
func (w *Writer) end(empty bool) []byte {
	end := bodyEnd
	if w.endN > 0 {
		buf, n := w.buf, w.n
		w.buf, w.n = w.late, w.endN
		if w.room(2) {
			w.put("\r\n")
		}
		w.late, w.endN = w.buf, w.n
		w.buf, w.n = buf, n
		end = w.late.b[:w.endN]
	}
	if empty {
		end = end[len("\r\n"):]
	}
	return end
}

// send sends what is pending, p and end, and gives how many bytes of p went.
func (w *Writer) send(p, end []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	pending := w.n
	before := w.sent
	switch {
	case pending == 0 && len(end) == 0:
		w.write(p)
	case w.buf == nil && len(p) == 0:
		w.write(end)
	case w.buf != nil && pending+len(p)+len(end) <= len(w.buf.b):
		w.n += copy(w.buf.b[w.n:], p)
		w.n += copy(w.buf.b[w.n:], end)
		w.write(w.buf.b[:w.n])
	case w.raw.conn != nil:
		w.writev(p, end)
	default:
		w.writeParts(p, end)
	}
	w.n = 0
	return int(max(0, min(w.sent-before-int64(pending), int64(len(p))))), w.err
}

// write sends b.
func (w *Writer) write(b []byte) {
	if len(b) == 0 || w.err != nil {
		return
	}
	var n int
	var err error
	if w.raw.conn != nil {
		n, err = w.raw.write(b)
	} else {
		n, err = w.nc.Write(b)
	}
	n = max(0, min(n, len(b)))
	w.sent += int64(n)
	switch {
	case err != nil:
		w.fail(err)
	case n < len(b):
		w.fail(io.ErrShortWrite)
	}
}

// writev sends three pieces as they are.
func (w *Writer) writev(p, end []byte) {
	w.vec = w.store[:0]
	total := 0
	for _, b := range [...][]byte{w.pending(), p, end} {
		if len(b) > 0 {
			w.vec = append(w.vec, b)
			total += len(b)
		}
	}
	n, err := w.vec.WriteTo(w.nc)
	w.vec, w.store = nil, [3][]byte{}
	w.sent += n
	switch {
	case err != nil:
		w.fail(err)
	case n < int64(total):
		w.fail(io.ErrShortWrite)
	}
}

// writeParts sends three pieces where every write makes a TLS record of its own: the small ones travel with a part of p.
func (w *Writer) writeParts(p, end []byte) {
	if w.n > 0 {
		m := copy(w.buf.b[w.n:], p)
		w.write(w.buf.b[:w.n+m])
		p = p[m:]
	}
	if len(end) == 0 {
		w.write(p)
		return
	}
	if w.buf == nil {
		w.buf = takeBuffer(0, w.held)
	}
	tail := min(len(p), max(0, len(w.buf.b)-len(end)))
	w.write(p[:len(p)-tail])
	if tail+len(end) > len(w.buf.b) { // a trailer section that fills more than a buffer
		w.write(end)
		return
	}
	m := copy(w.buf.b, p[len(p)-tail:])
	m += copy(w.buf.b[m:], end)
	w.write(w.buf.b[:m])
}

func (w *Writer) pending() []byte {
	if w.buf == nil {
		return nil
	}
	return w.buf.b[:w.n]
}
