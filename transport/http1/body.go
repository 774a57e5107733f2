package http1

import (
	"errors"
	"io"
)

// A Framing is how the end of a body is told (RFC 9112 §6.3).
type Framing uint8

// The framings.
const (
	NoBody     Framing = iota
	Sized              // by Content-Length
	Chunked            // by the chunked transfer coding
	UntilClose         // by the end of the connection, responses only
)

// A Body reads the body of one message from its connection. One goroutine at a time.
type Body struct {
	c        *Conn
	framing  Framing
	response bool
	open     bool // bytes or the end are still to come; a zero Body is done
	length   int64
	left     int64 // Sized: bytes not read yet
	taken    int64 // bytes read
	room     int   // for the next piece of a connection that is read into a buffer taken before
	chunks   unchunker
	err      error
	trailer  Fields
	section  lines
}

func (b *Body) reset() {
	b.c, b.framing, b.open, b.err, b.taken = nil, NoBody, false, nil, 0
	b.trailer.reset()
}

// start begins a body on c.
func (b *Body) start(c *Conn, framing Framing, length, left int64, response bool) {
	b.c, b.framing, b.response, b.length, b.left = c, framing, response, length, left
	b.open, b.taken = framing != NoBody, 0
	b.room = minBuffer
	b.chunks = unchunker{ext: c.limits.ChunkExtension}
	b.section = lines{}
	c.open = b.open
}

// Framing tells how the body ends. A Content-Length of 0 is NoBody.
func (b *Body) Framing() Framing { return b.framing }

// Length gives the value of Content-Length, also where no body follows it (HEAD, 304), and -1 where there is none.
func (b *Body) Length() int64 { return b.length }

// Remaining gives the bytes of the body that have not been read yet, -1 where that is not known.
func (b *Body) Remaining() int64 {
	switch {
	case !b.open:
		return 0
	case b.framing == Sized:
		return b.left
	}
	return -1
}

// Taken gives the bytes of the body that have been read, its coding taken off.
func (b *Body) Taken() int64 { return b.taken }

// Done reports whether the body has been read to its end.
func (b *Body) Done() bool { return !b.open }

// Trailer gives the trailer fields, complete once the body is done. Fields that frame or route (RFC 9110 §6.5.1) are
// refused and so never among them; which others to heed is the caller's to say.
func (b *Body) Trailer() *Fields { return &b.trailer }

// Buffered gives the number of bytes that were read from the connection and not from the body. For a chunked body
// framing counts among them.
func (b *Body) Buffered() int {
	if !b.open {
		return 0
	}
	n := b.c.w - b.c.r
	if b.framing == Sized {
		return int(min(int64(n), b.left))
	}
	return n
}

// Read reads into p: what is buffered, or else once from the connection, straight into p where that can be. It
// gives io.EOF at the end, io.ErrUnexpectedEOF where the connection ends before the body, and an *Error for bad framing.
func (b *Body) Read(p []byte) (int, error) {
	for {
		switch {
		case b.err != nil:
			return 0, b.err
		case !b.open:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		n, err := b.read(p)
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// direct is the smallest p that is read into past the connection's buffer.
const direct = 512

func (b *Body) read(p []byte) (int, error) {
	c := b.c
	if c.r == c.w || b.chunks.state == chunkFields {
		if b.chunks.state == chunkFields || len(p) < direct && (b.framing == Chunked || c.raw.conn == nil) {
			return 0, b.more()
		}
		p = p[:b.most(len(p))]
		m, err := c.read(p)
		if err != nil {
			return 0, b.ended(c.fail(err))
		}
		n := b.take(p, p[:m])
		return n, nil
	}
	n, used := b.decode(p, c.Buffered())
	c.r += used
	return n, nil
}

// most bounds a read of size bytes. A socket keeps what follows the body; elsewhere it could hide where Alive does not
// see it, so that there the last read asks for more than the body has left.
func (b *Body) most(size int) int {
	size = min(size, maxBuffer)
	switch {
	case b.framing != Sized:
	case b.c.raw.conn != nil:
		size = int(min(int64(size), b.left))
	case b.left == int64(size):
		size--
	}
	return size
}

// Next gives the next piece of the body without a copy: at most size bytes (8 KiB to 128 KiB, rounded up to a power of
// two), in a buffer of the connection, valid until the next call on the body or the connection. On TCP and Unix
// connections no buffer is taken before there is something to read; on others it is smaller where little has come. A piece comes with a nil error; Done tells whether it is
// the last. Otherwise the errors are those of Read.
func (b *Body) Next(size int) ([]byte, error) {
	for {
		switch {
		case b.err != nil:
			return nil, b.err
		case !b.open:
			return nil, io.EOF
		}
		piece, err := b.next(size)
		if len(piece) > 0 || err != nil {
			return piece, err
		}
	}
}

func (b *Body) next(size int) ([]byte, error) {
	c := b.c
	putBuffer(c.piece)
	c.piece = nil
	if b.chunks.state == chunkFields {
		return nil, b.more()
	}
	if c.r < c.w {
		// In place: decoded data never outruns what it is decoded from.
		at := c.r
		n, used := b.decode(c.in.b[at:c.w], c.in.b[at:c.w])
		c.r += used
		return c.in.b[at : at+n], nil
	}
	if b.framing == Sized {
		size = int(min(int64(size), b.left+1))
	}
	if c.raw.conn != nil {
		return b.awaited(c.raw.await(max(size, minBuffer)))
	}
	// The buffer waits with the reader: it is small where little comes. A record of TLS has at most 16 KiB.
	buf := takeBuffer(min(max(size, minBuffer), b.room), c.limits.Held)
	n, err := c.read(buf.b[:b.most(len(buf.b))])
	if b.room = minBuffer; n > len(buf.b)/2 {
		b.room = min(2*len(buf.b), 16<<10)
	}
	return b.awaited(buf, n, err)
}

// awaited is what Next does with n bytes that were read into buf.
func (b *Body) awaited(buf *buffer, n int, err error) ([]byte, error) {
	if err != nil {
		putBuffer(buf)
		return nil, b.ended(b.c.fail(err))
	}
	b.c.piece = buf
	return buf.b[:b.take(buf.b, buf.b[:n])], nil
}

// take decodes raw bytes in place and keeps what is behind the body for the next message.
func (b *Body) take(dst, raw []byte) int {
	n, used := b.decode(dst, raw)
	if b.err == nil {
		b.c.keep(raw[used:])
	}
	return n
}

// decode takes the framing off raw. It notes the end, or the error, which the call after the last byte of data gives.
func (b *Body) decode(dst, raw []byte) (n, used int) {
	switch b.framing {
	case Sized:
		n = copy(dst, raw[:min(int64(len(raw)), b.left)])
		b.left -= int64(n)
		used = n
		if b.left == 0 {
			b.end()
		}
	case UntilClose:
		n = copy(dst, raw)
		used = n
	case Chunked:
		var refused *refusal
		n, used, refused = b.chunks.decode(dst, raw)
		switch {
		case refused != nil:
			b.refuse(refused)
		case b.chunks.state == chunkDone:
			b.end()
		}
	case NoBody:
	}
	b.taken += int64(n)
	return n, used
}

// more reads once more into the connection's buffer, or parses the trailer section that is there.
func (b *Body) more() error {
	c := b.c
	if b.chunks.state == chunkFields {
		if b.section.limits == nil {
			b.section = lines{limits: &c.limits, total: c.limits.Trailer, large: errTrailer, late: true}
		}
		done, refused := b.parseTrailer(c.Buffered())
		if done || refused != nil {
			return nil // Read and Next look at err and done
		}
	}
	if err := c.fill(false); err != nil {
		return b.ended(err)
	}
	return nil
}

// parseTrailer parses the trailer section as far as it has come (RFC 9112 §7.1.2).
func (b *Body) parseTrailer(raw []byte) (bool, *refusal) {
	done, refused := b.section.fields(raw, &b.trailer)
	if refused != nil {
		b.trailer.reset()
		b.refuse(refused)
		return false, refused
	}
	if done {
		c := b.c
		b.trailer.b = raw[:b.section.pos]
		c.r += b.section.pos
		c.tail, c.floor = c.in, c.r
		b.end()
	}
	return done, nil
}

func (b *Body) end() {
	b.open, b.c.open = false, false
}

func (b *Body) refuse(r *refusal) {
	b.err = r.in(b.response)
	b.c.err, b.c.broken = b.err, true
}

// ended judges an error of the connection within the body.
func (b *Body) ended(err error) error {
	switch {
	case !errors.Is(err, io.EOF):
	case b.framing == UntilClose:
		b.end()
		return nil
	default:
		b.err = io.ErrUnexpectedEOF
		b.c.broken = true
		return b.err
	}
	return err
}

// Direct gives how many bytes may now be taken from the net.Conn itself, past this package (splice): the rest of a
// Sized body of which nothing is buffered, -1 for all until the end of an UntilClose body of which nothing is buffered,
// otherwise 0. It is 0 for connections other than TCP and Unix.
func (b *Body) Direct() int64 {
	switch {
	case !b.open || b.err != nil || b.c.r < b.c.w || b.c.raw.conn == nil:
		return 0
	case b.framing == Sized:
		return b.left
	case b.framing == UntilClose:
		return -1
	}
	return 0
}

// Took tells that n bytes were taken past this package, at most Direct, and whether the connection's end was seen then.
// It gives io.ErrUnexpectedEOF where that end came too early.
func (b *Body) Took(n int64, eof bool) error {
	b.taken += max(n, 0)
	if b.framing == Sized {
		b.left -= max(0, min(n, b.left))
		if b.left == 0 && b.open {
			b.end()
		}
	}
	if eof && b.open {
		return b.ended(b.c.fail(io.EOF))
	}
	return nil
}

// Drain reads and drops the rest of the body, as long as that is at most about limit bytes. It reports whether the end
// was reached; if not, the connection cannot be used again.
func (b *Body) Drain(limit int64) (bool, error) {
	for b.open {
		if limit < 0 || b.framing == Sized && b.left > limit {
			return false, nil
		}
		piece, err := b.Next(16 << 10)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, err
		}
		limit -= int64(len(piece))
	}
	return true, nil
}
