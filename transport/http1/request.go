package http1

// A Form is the form of a request target (RFC 9112 §3.2).
type Form uint8

// The four forms.
const (
	OriginForm    Form = iota // /path?query
	AbsoluteForm              // http://host/path?query
	AuthorityForm             // host:port, CONNECT only
	AsteriskForm              // *, OPTIONS only
)

// A Request is the head of one request and the way to its body. Reuse it: it keeps the memory of its index.
// It belongs to one goroutine; once it is read, others may look at the head, and another may read the Body.
type Request struct {
	Fields
	Body Body

	method  string
	target  string
	scheme  string
	auth    string // the authority in the target
	path    string
	query   string
	host    string
	form    Form
	minor   uint8
	differs bool
	persist bool
	expect  bool

	// Where method and target stand: the buffer may move until the head is complete.
	methodAt, methodEnd, targetAt, targetEnd int
}

const maxMethod = 32

// Method gives the method as it was sent; methods are case-sensitive (RFC 9110 §9.1).
func (q *Request) Method() string { return q.method }

// Target gives the request target as it was sent.
func (q *Request) Target() string { return q.target }

// Form gives the form of the target.
func (q *Request) Form() Form { return q.form }

// Minor gives the minor version, 0 or 1.
func (q *Request) Minor() int { return int(q.minor) }

// Scheme gives "http" or "https" for a target in absolute form, otherwise "".
func (q *Request) Scheme() string { return q.scheme }

// Host gives the Host field, "" where there is none.
func (q *Request) Host() string { return q.host }

// Authority gives whom the request is for: the authority of the target where it has one, else the Host field
// (RFC 9112 §3.2.2, §3.3). It is "" only for HTTP/1.0 without Host.
func (q *Request) Authority() string {
	if q.auth != "" {
		return q.auth
	}
	return q.host
}

// HostDiffers reports a target in absolute or authority form whose authority is not what Host says, letter case
// apart. By RFC 9112 §3.2.2 the target wins; a caller may refuse such a request.
func (q *Request) HostDiffers() bool { return q.differs }

// Path gives the path of the target without the query: "/" for an absolute form without one, "*" in asterisk form,
// "" in authority form.
func (q *Request) Path() string { return q.path }

// Query gives the query of the target without the question mark.
func (q *Request) Query() string { return q.query }

// Origin gives the target as it is sent to the origin server (RFC 9112 §3.2.1, §3.2.4): path and query byte for
// byte, "*" where OPTIONS names neither, "" in authority form.
func (q *Request) Origin() string {
	switch q.form {
	case OriginForm, AsteriskForm:
		return q.target
	case AbsoluteForm:
		rest := q.target[len(q.scheme)+len("://")+len(q.auth):]
		switch {
		case rest != "" && rest[0] == '/':
			return rest
		case rest == "" && q.method == "OPTIONS":
			return "*"
		}
		return "/" + rest
	case AuthorityForm:
	}
	return ""
}

// Persistent reports whether another request may follow (RFC 9112 §9.3). It is false for HTTP/1.0, whose
// keep-alive a proxy must not take up.
func (q *Request) Persistent() bool { return q.persist }

// ExpectContinue reports whether the client waits for 100 (Continue) before it sends the body (RFC 9110 §10.1.1).
func (q *Request) ExpectContinue() bool { return q.expect }

// ReadRequest reads the head of the next request; the body of the one before must be done. io.EOF is the
// end of the connection before the first byte. An *Error is a request that is refused: answer with its Status and close.
// Anything else is a connection that broke off; after a deadline that has passed the call may be repeated.
func (c *Conn) ReadRequest(q *Request) error {
	q.Fields.reset()
	q.Body.reset()
	// Of a request that is refused nothing is known, and least of all what stood in a buffer that is another's by now.
	q.method, q.target, q.scheme, q.auth, q.path, q.query, q.host = "", "", "", "", "", "", ""
	q.form, q.minor, q.differs, q.persist, q.expect = OriginForm, 0, false, false, false
	return c.readHead(q, false)
}

func (q *Request) section() *Fields { return &q.Fields }

// start parses request-line = method SP request-target SP HTTP-version (RFC 9112 §3).
func (q *Request) start(b []byte, start, end int) *Error {
	line := view(b[start:end])
	i := 0
	for i < len(line) && classes[line[i]]&isToken != 0 {
		i++
	}
	switch {
	case i == 0 || i == len(line):
		return badLine(line)
	case line[i] != ' ' && line[i] != '\t':
		return badByte(line[i], errMethod)
	case line[i] == '\t':
		return errLineSpace
	case i > maxMethod:
		return errMethodSize
	}
	t := i + 1
	for t < len(line) && line[t] > ' ' && line[t] < 0x7f {
		t++
	}
	switch {
	case t == i+1 || t < len(line) && line[t] == '\t':
		return errLineSpace
	case t == len(line):
		return errHTTP09
	case line[t] != ' ':
		return badByte(line[t], errTarget)
	}
	minor, err := version(line[t+1:])
	if err != nil {
		return badVersion(line[t+1:], err)
	}
	q.minor = uint8(minor)
	q.methodAt, q.methodEnd, q.targetAt, q.targetEnd = start, start+i, start+i+1, start+t
	return nil
}

func badLine(line string) *Error {
	switch {
	case line[0] == ' ' || line[0] == '\t':
		return errLineSpace
	case classes[line[0]]&isToken == 0:
		return badByte(line[0], errMethod)
	}
	return errLine
}

func badByte(c byte, otherwise *Error) *Error {
	if c == '\r' {
		return errBareCR.in(false)
	}
	return otherwise
}

// badVersion tells whitespace in the line from a version that is none.
func badVersion(v string, err *refusal) *Error {
	for i := range len(v) {
		switch v[i] {
		case ' ', '\t':
			return errLineSpace
		case '\r':
			return errBareCR.in(false)
		}
	}
	return err.in(false)
}

// finish judges a request whose lines are well-formed.
func (q *Request) finish(c *Conn) *Error {
	q.method = view(q.b[q.methodAt:q.methodEnd])
	q.target = view(q.b[q.targetAt:q.targetEnd])
	q.expect, q.differs = false, false
	if q.method == "PRI" {
		return errPreface
	}
	if err := q.parseTarget(); err != nil {
		return err
	}
	if err := q.parseHost(); err != nil {
		return err
	}
	framing, length, refused := q.framing(int(q.minor))
	if refused != nil {
		return refused.in(false)
	}
	if err := q.parseExpect(framing); err != nil {
		return err
	}
	q.persist = q.minor == 1 && !q.Lists(FieldConnection, "close")
	q.Body.start(c, framing, length, length, false)
	return nil
}

// parseHost holds Host to RFC 9112 §3.2: one that is well-formed. HTTP/1.0 did not have it.
func (q *Request) parseHost() *Error {
	host, ok, err := q.only(FieldHost, errHosts)
	q.host = host
	switch {
	case err != nil:
		return err
	case !ok && q.minor == 0:
		return nil
	case !ok:
		return errNoHost
	case !authority(host):
		return errHost
	}
	q.differs = q.auth != "" && !equalFold(q.auth, host)
	return nil
}

// parseExpect knows one expectation, which means nothing in an HTTP/1.0 request or without a body (RFC 9110 §10.1.1).
func (q *Request) parseExpect(f Framing) *Error {
	v, ok, err := q.only(FieldExpect, errExpect)
	switch {
	case err != nil:
		return err
	case !ok:
		return nil
	case !equalFold(v, "100-continue"):
		return errExpect
	}
	q.expect = q.minor == 1 && f != NoBody
	return nil
}

// Own copies the head, in one allocation: what is looked up from now on is the caller's, for ever.
func (q *Request) Own() {
	q.Fields.Own()
	q.method = view(q.b[q.methodAt:q.methodEnd])
	q.target = view(q.b[q.targetAt:q.targetEnd])
	q.host, _ = q.Known(FieldHost, 0)
	_ = q.parseTarget() // of a target that was taken apart before
}
