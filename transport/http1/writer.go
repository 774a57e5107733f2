package http1

import (
	"net"
	"strconv"
	"sync/atomic"
	"unsafe"
)

// A Writer writes messages to one connection: head, body, trailer fields. The zero value is ready for Reset. One
// goroutine at a time; a Conn may be read meanwhile.
//
// Nothing malformed is written. The first bad argument is an *Error that every call after it returns, and nothing of the
// head that it was meant for is sent; what is written to the connection after a head was sent and then fails, ends it.
type Writer struct {
	nc    net.Conn
	raw   rawWriter // of nc, where its bytes go to a socket as they are, which takes several pieces in one system call
	vec   net.Buffers
	store [3][]byte

	buf  *buffer // buf[:n] is not sent yet
	n    int
	late *buffer // trailer fields behind the last chunk: late[:endN]
	endN int
	sent int64
	err  error
	held *atomic.Int64

	state    writeState
	response bool
	framing  Framing
	framed   bool // Length, Chunked or UntilClose was called
	omit     bool // framing fields must not be written
	bodiless bool
	left     int64
}

type writeState uint8

const (
	betweenMessages writeState = iota
	inHead
	inBody
)

// Reset begins to write to c; Sent is 0 again. What was pending is dropped.
func (w *Writer) Reset(c *Conn) {
	w.Release()
	w.nc, w.sent, w.err, w.state = c.nc, 0, nil, betweenMessages
	w.raw.conn, w.held = c.raw.conn, c.limits.Held
}

// Release gives the buffers back and drops what is pending.
func (w *Writer) Release() {
	putBuffer(w.buf)
	putBuffer(w.late)
	w.buf, w.late, w.n, w.endN = nil, nil, 0, 0
}

// Sent gives the bytes that the connection took since Reset, those past this Writer (Took) among them.
func (w *Writer) Sent() int64 { return w.sent }

// Request begins a request head: method SP target SP HTTP/1.1 (RFC 9112 §3). A method is a token, a target visible ASCII.
func (w *Writer) Request(method, target string) {
	w.begin(false)
	switch {
	case method == "" || !all(method, isToken):
		w.fail(errWriteMethod)
	case !visible(target):
		w.fail(errWriteTarget)
	case w.room(len(method) + len(target) + len("  HTTP/1.1\r\n")):
		w.put(method)
		w.put(" ")
		w.put(target)
		w.put(" HTTP/1.1\r\n")
	}
}

// Response begins a response head: HTTP/1.1 SP status SP reason (RFC 9112 §4), to a request with the method, which
// decides together with the status whether a body can follow.
func (w *Writer) Response(status int, reason, method string) {
	w.begin(true)
	w.omit = status < 200 || status == 204 || method == "CONNECT" && status/100 == 2
	w.bodiless = w.omit || status == 304 || method == "HEAD"
	switch {
	case status < 100 || status > 599:
		w.fail(errWriteStatus)
	case !text(bytesOf(reason)):
		w.fail(errWriteReason)
	case w.room(len("HTTP/1.1 200 \r\n") + len(reason)):
		w.put("HTTP/1.1 ")
		w.n = len(strconv.AppendInt(w.buf.b[:w.n], int64(status), 10))
		w.put(" ")
		w.put(reason)
		w.put("\r\n")
	}
}

func (w *Writer) begin(response bool) {
	if w.state != betweenMessages {
		w.fail(errWriteOrder)
	}
	w.state, w.response, w.framing = inHead, response, NoBody
	w.framed, w.omit, w.bodiless, w.left = false, false, false, 0
}

// Field adds a field line. The name is a token, the value holds no control character but HTAB: what could end the line
// or the head is refused (RFC 9110 §5.5). So are Content-Length and Transfer-Encoding: see Length and Chunked.
func (w *Writer) Field(name, value string) {
	switch id := Identify(name); {
	case w.state != inHead:
		w.fail(errWriteOrder)
	case id == FieldContentLength || id == FieldTransferEncoding:
		w.fail(errWriteFraming)
	case w.fits(name, value):
		w.line(name, value)
	}
}

// Copy adds field line i of f as it was read. Content-Length and Transfer-Encoding are refused.
func (w *Writer) Copy(f *Fields, i int) {
	switch id := f.ID(i); {
	case w.state != inHead:
		w.fail(errWriteOrder)
	case id == FieldContentLength || id == FieldTransferEncoding:
		w.fail(errWriteFraming)
	default:
		w.line(f.Name(i), f.Value(i))
	}
}

// Length frames the body by Content-Length (RFC 9112 §6.2). Where no body can follow, it is announced only (HEAD, 304) or
// left out (1xx, 204, 2xx to CONNECT).
func (w *Writer) Length(n int64) {
	if !w.frame(Sized) {
		return
	}
	if n < 0 {
		w.fail(errWriteLength)
		return
	}
	if !w.bodiless {
		w.left = n
	}
	if !w.omit && w.room(len("Content-Length: \r\n")+20) {
		w.put("Content-Length: ")
		w.n = len(strconv.AppendInt(w.buf.b[:w.n], n, 10))
		w.put("\r\n")
	}
}

// Chunked frames the body by the chunked coding (RFC 9112 §7.1), announced only or left out as by Length. It is not for
// HTTP/1.0 recipients.
func (w *Writer) Chunked() {
	if w.frame(Chunked) && !w.omit {
		w.line("Transfer-Encoding", "chunked")
	}
}

// UntilClose frames the body of a response by the end of the connection, which the caller closes.
func (w *Writer) UntilClose() {
	if !w.response {
		w.fail(errWriteUntil)
		return
	}
	w.frame(UntilClose)
}

// frame notes the framing, once.
func (w *Writer) frame(f Framing) bool {
	switch {
	case w.state != inHead:
		w.fail(errWriteOrder)
	case w.framed:
		w.fail(errWriteTwice)
	}
	w.framed = true
	if !w.bodiless {
		w.framing = f
	}
	return w.err == nil
}

// End ends the head; what else is written ends it too. The head is sent together with the first bytes of the body, by
// Flush or by Finish. Without a framing a request has no body, and neither has a response, which then says so.
func (w *Writer) End() error {
	if w.state != inHead {
		w.fail(errWriteOrder)
		return w.err
	}
	if w.response && !w.framed && !w.bodiless {
		w.Length(0)
	}
	if w.room(2) {
		w.put("\r\n")
	}
	w.state = inBody
	return w.err
}

// ended makes sure that a head is complete.
func (w *Writer) ended() error {
	switch {
	case w.err != nil:
	case w.state == inHead:
		_ = w.End()
	case w.state == betweenMessages:
		w.fail(errWriteOrder)
	}
	return w.err
}

// Trailer adds a trailer field to a chunked body, sent by Finish; names that frame or route are refused (RFC 9110
// §6.5.1).
func (w *Writer) Trailer(name, value string) {
	if w.ended() == nil && w.fits(name, value) {
		w.lateLine(Identify(name), name, value)
	}
}

// CopyTrailer adds field line i of f as a trailer field.
func (w *Writer) CopyTrailer(f *Fields, i int) {
	if w.ended() == nil {
		w.lateLine(f.ID(i), f.Name(i), f.Value(i))
	}
}

func (w *Writer) lateLine(id FieldID, name, value string) {
	switch {
	case w.framing == NoBody && w.bodiless: // nowhere to be, as the body is
		return
	case w.framing != Chunked || id.lateForbidden():
		w.fail(errWriteTrailer)
		return
	}
	// The same lines, in a buffer of their own.
	buf, n := w.buf, w.n
	w.buf, w.n = w.late, w.endN
	if w.n == 0 && w.room(len(lastChunk)) {
		w.put(lastChunk[:len(lastChunk)-len("\r\n")])
	}
	w.line(name, value)
	w.late, w.endN = w.buf, w.n
	w.buf, w.n = buf, n
}

// fail keeps the first error.
func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// fits reports whether name and value can stand in a field line.
func (w *Writer) fits(name, value string) bool {
	switch {
	case !IsFieldName(name):
		w.fail(errWriteName)
	case !IsFieldValue(value):
		w.fail(errWriteValue)
	}
	return w.err == nil
}

func (w *Writer) line(name, value string) {
	if w.room(len(name) + len(value) + len(": \r\n")) {
		w.put(name)
		w.put(": ")
		w.put(value)
		w.put("\r\n")
	}
}

// room makes room for n bytes in the buffer.
func (w *Writer) room(n int) bool {
	switch {
	case w.err != nil:
		return false
	case w.buf == nil:
		w.buf = takeBuffer(n, w.held)
	case w.n+n > len(w.buf.b):
		b := takeBuffer(w.n+n, w.held)
		copy(b.b, w.buf.b[:w.n])
		putBuffer(w.buf)
		w.buf = b
	}
	if w.n+n > len(w.buf.b) {
		w.fail(errWriteSize)
		return false
	}
	return true
}

func (w *Writer) put(s string) { w.n += copy(w.buf.b[w.n:], s) }

// visible reports one byte or more, all of them VCHAR (RFC 5234).
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// bytesOf gives the bytes of a string to read.
func bytesOf(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
