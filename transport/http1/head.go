package http1

import (
	"errors"
	"io"
)

// A head is what ReadRequest and ReadResponse fill in.
type head interface {
	// start parses the start line, b[start:end].
	start(b []byte, start, end int) *Error
	// section gives the field lines to fill.
	section() *Fields
	// finish judges the whole.
	finish(c *Conn) *Error
}

// readHead reads one head and pins the buffer that it stands in. response says whose errors to give.
func (c *Conn) readHead(h head, response bool) error {
	switch {
	case c.open:
		return errOpen
	case c.broken || c.err != nil && c.r == c.w:
		return c.err
	}
	c.Release()
	l := lines{limits: &c.limits, total: c.limits.Head, large: errHeadSize}
	started, empty := false, 0
	for {
		b := c.Buffered()
		done, err := false, (*Error)(nil)
		if !started {
			started, err = c.startLine(&l, b, h, &empty, response)
		}
		if started && err == nil {
			f := h.section()
			var refused *refusal
			if done, refused = l.fields(b, f); refused != nil {
				err = refused.in(response)
			}
		}
		if err != nil {
			return c.refuse(err)
		}
		if done {
			break
		}
		if err := c.fill(false); err != nil {
			return c.ended(err)
		}
	}
	f := h.section()
	f.b = c.in.b[c.r : c.r+l.pos]
	if err := h.finish(c); err != nil {
		return c.refuse(err)
	}
	c.r += l.pos
	c.head, c.floor = c.in, c.r
	return nil
}

// refuse ends the connection's reading: where one message had no end, none begins.
func (c *Conn) refuse(err *Error) error {
	c.err, c.broken = err, true
	return err
}

// ended tells the end between messages from the end in the middle of one.
func (c *Conn) ended(err error) error {
	if c.r < c.w && errors.Is(err, io.EOF) {
		c.err, c.broken = io.ErrUnexpectedEOF, true
		return c.err
	}
	return err
}

// startLine parses the start line if it is there, past the empty lines that a server skips (RFC 9112 §2.2).
func (c *Conn) startLine(l *lines, b []byte, h head, empty *int, response bool) (bool, *Error) {
	for {
		start, end, ok, refused := l.next(b, c.limits.Line, errLineSize)
		switch {
		case refused == errLineSize && !response && !hasSpace(b[l.pos:]):
			return false, errNoTarget.in(false)
		case refused != nil:
			return false, refused.in(response)
		case !ok:
			return false, nil
		case start < end || response:
			return true, h.start(b, start, end)
		}
		if *empty++; *empty > c.limits.EmptyLines {
			return false, errEmptyLines
		}
	}
}

// hasSpace looks where a method that is one ends.
func hasSpace(b []byte) bool {
	for _, c := range b[:min(len(b), maxMethod+1)] {
		if c == ' ' {
			return true
		}
	}
	return false
}

// version parses HTTP-version (RFC 9112 §2.3), which is case-sensitive, and gives the minor version.
func version(s string) (int, *refusal) {
	switch {
	case s == "HTTP/1.1":
		return 1, nil
	case s == "HTTP/1.0":
		return 0, nil
	case len(s) == 8 && s[:5] == "HTTP/" && s[6] == '.' && s[5]-'0' <= 9 && s[7]-'0' <= 9:
		return 0, errNotOurs
	}
	return 0, errVersion
}

// framing gives how the body is framed, by the rules of RFC 9112 §6.3 that requests and responses share. The length
// is that of Content-Length, -1 where there is none.
func (f *Fields) framing(minor int) (Framing, int64, *refusal) {
	length := int64(-1)
	if f.Has(FieldContentLength) {
		if f.twice&(1<<FieldContentLength) != 0 {
			return 0, 0, errLengths
		}
		n, ok := number(f.exact(FieldContentLength))
		if !ok {
			return 0, 0, errLength
		}
		length = n
	}
	if !f.Has(FieldTransferEncoding) {
		if length > 0 {
			return Sized, length, nil
		}
		return NoBody, length, nil
	}
	switch te := f.exact(FieldTransferEncoding); {
	case minor == 0:
		return 0, 0, errTE10
	case length >= 0:
		return 0, 0, errLengthTE
	case f.twice&(1<<FieldTransferEncoding) != 0:
		return 0, 0, errTE
	case equalFold(te, "chunked"):
		return Chunked, -1, nil
	case otherCodings(te):
		return 0, 0, errTEUnknown
	}
	return 0, 0, errTE
}

// exact gives the value of a framing field with the whitespace after it, which then is none of ours.
func (f *Fields) exact(id FieldID) string {
	for i := range f.list {
		if e := &f.list[i]; e.id == id {
			end := e.end
			for f.b[end] == ' ' || f.b[end] == '\t' {
				end++
			}
			return view(f.b[e.at:end])
		}
	}
	return ""
}

// otherCodings reports a list of codings that ends in chunked as it must, and so is well-formed, but has others before.
func otherCodings(te string) bool {
	cut := len(te) - len("chunked")
	if cut <= 0 || !equalFold(te[cut:], "chunked") || classes[te[0]]&isToken == 0 {
		return false
	}
	before := trim(te[:cut])
	return before[len(before)-1] == ',' && !listed(before, "chunked") && !listed(before, "identity")
}
