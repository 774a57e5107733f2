package http1

// A Response is the head of one response and the way to its body; the rules of [Request] hold.
type Response struct {
	Fields
	Body Body

	reason  string
	status  uint16
	minor   uint8
	persist bool
	tunnel  bool
	toHead  bool // the request was HEAD
	toConn  bool // the request was CONNECT

	reasonAt, reasonEnd int
}

// Status gives the status code, 100 to 599.
func (p *Response) Status() int { return int(p.status) }

// Reason gives the reason phrase, which may be empty.
func (p *Response) Reason() string { return p.reason }

// StatusLine gives the status code and the reason phrase as the status line has them: "404 Not Found".
func (p *Response) StatusLine() string { return view(p.b[p.reasonAt-len("404 ") : p.reasonEnd]) }

// Own is [Fields.Own] for the whole head.
func (p *Response) Own() {
	p.Fields.Own()
	p.reason = view(p.b[p.reasonAt:p.reasonEnd])
}

// Minor gives the minor version, 0 or 1.
func (p *Response) Minor() int { return int(p.minor) }

// Persistent reports whether the connection can be used again once the body is done (RFC 9112 §9.3).
func (p *Response) Persistent() bool { return p.persist }

// Tunnel reports that the connection is no longer HTTP after this head: 101, or 2xx to CONNECT. What was read beyond
// the head is [Conn.Buffered]. Whether a switch was asked for is the caller's to know.
func (p *Response) Tunnel() bool { return p.tunnel }

// ReadResponse reads the head of the next response, 1xx or final, to a request with the method. Errors are those of
// ReadRequest.
func (c *Conn) ReadResponse(p *Response, method string) error {
	p.Fields.reset()
	p.Body.reset()
	p.reason, p.status, p.minor, p.persist, p.tunnel = "", 0, 0, false, false
	p.toHead, p.toConn = method == "HEAD", method == "CONNECT"
	return c.readHead(p, true)
}

func (p *Response) section() *Fields { return &p.Fields }

// start parses status-line = HTTP-version SP status-code SP [ reason-phrase ] (RFC 9112 §4).
func (p *Response) start(b []byte, start, end int) *Error {
	line := view(b[start:end])
	const reasonAt = len("HTTP/1.1 200 ")
	if len(line) < reasonAt || line[8] != ' ' || line[12] != ' ' {
		return errStatusLine
	}
	minor, err := version(line[:8])
	if err != nil {
		return err.in(true)
	}
	n, ok := number(line[9:12])
	if !ok {
		return errStatusLine
	}
	if n < 100 || n > 599 {
		return errStatus
	}
	if !text(b[start+reasonAt : end]) {
		return errReason
	}
	p.status, p.minor = uint16(n), uint8(minor)
	p.reasonAt, p.reasonEnd = start+reasonAt, end
	return nil
}

// finish judges a response whose lines are well-formed, in the order of RFC 9112 §6.3.
func (p *Response) finish(c *Conn) *Error {
	p.reason = view(p.b[p.reasonAt:p.reasonEnd])
	p.tunnel = p.status == 101 || p.toConn && p.status/100 == 2
	closes := p.Lists(FieldConnection, "close")
	p.persist = !closes && (p.minor == 1 || p.Lists(FieldConnection, "keep-alive"))
	if p.status >= 200 {
		c.final++
	}
	if p.toConn && p.status/100 == 2 { // 2: framing fields are to be ignored
		p.persist = false
		p.Body.start(c, NoBody, -1, 0, true)
		return nil
	}
	framing, length, refused := p.framing(int(p.minor))
	switch {
	case refused != nil:
		return refused.in(true)
	case p.status < 200 || p.status == 204: // 1, and §6.1: neither field may be sent with these
		if framing != NoBody {
			return errNoContent
		}
		p.persist = p.persist && !p.tunnel
		p.Body.start(c, NoBody, length, 0, true)
	case p.toHead || p.status == 304: // 1
		p.Body.start(c, NoBody, length, 0, true)
	case framing == NoBody && length < 0: // 8
		p.persist = false
		p.Body.start(c, UntilClose, -1, -1, true)
	default:
		p.Body.start(c, framing, length, length, true)
	}
	return nil
}
