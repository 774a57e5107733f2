package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/heddlemesh/mesh/transport/http1"
)

// A codecExchange is what belongs to one request, in one piece of memory that is never used again: who keeps a part of it
// harms nobody.
type codecExchange struct {
	w    codecWriter
	body codecBody
	url  url.URL
}

// newCodecExchange makes the request that a handler gets, as net/http's readRequest does, and the writer of its answer.
func newCodecExchange(ctx context.Context, s *codecSession) (*codecWriter, *http.Request) {
	q := &s.q
	q.Own()
	x := new(codecExchange)
	chunked := q.Has(http1.FieldTransferEncoding)
	base := http.Request{Method: q.Method(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: q.Minor(), Host: q.Authority(),
		Header: headerOf(&q.Fields, chunked), ContentLength: max(q.Body.Length(), 0), Body: http.NoBody, Close: !q.Persistent(),
		RequestURI: q.Target(), RemoteAddr: s.remote, TLS: s.tls, URL: &x.url}
	delete(base.Header, "Host")
	if pragma := base.Header["Pragma"]; len(pragma) > 0 && pragma[0] == "no-cache" && base.Header["Cache-Control"] == nil {
		base.Header["Cache-Control"] = []string{"no-cache"} // RFC 9111 §5.4, as net/http
	}
	if q.Minor() == 0 {
		base.Proto = "HTTP/1.0"
	}
	if chunked {
		base.ContentLength, base.TransferEncoding, base.Trailer = -1, []string{"chunked"}, announcedTrailer(&q.Fields)
	}
	x.target(q)
	if q.Body.Framing() != http1.NoBody {
		x.body.w = &x.w
		base.Body = &x.body
	}
	r := base.WithContext(ctx)
	x.body.trailer = &r.Trailer
	x.w.begin(s, &x.body, r)
	return &x.w, r
}

// target makes the URL. One in origin-form that nothing of is escaped is what it is; for others net/url says what it is.
func (x *codecExchange) target(q *http1.Request) {
	switch {
	case q.Form() == http1.OriginForm && plainPath(q.Path()):
		x.url.Path, x.url.RawQuery = q.Path(), q.Query()
		x.url.ForceQuery = len(q.Target()) == len(q.Path())+1
	case q.Form() == http1.AuthorityForm:
		x.url.Host = q.Target()
	default:
		if u, err := url.ParseRequestURI(q.Target()); err == nil {
			x.url = *u
		} else { // no target of the codec's is that
			x.url.Path, x.url.RawQuery = q.Path(), q.Query()
		}
	}
}

// plainPath reports a path that net/url escapes as it stands.
func plainPath(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', 'A' <= c && c <= 'Z', c == '/', c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	return true
}

// A codecBody is the body of a request. Read and Close may be called by several goroutines.
type codecBody struct {
	w       *codecWriter
	trailer *http.Header

	mu     sync.Mutex // guards what follows, and the reading side of the connection
	closed bool       // for the handler
	over   bool       // for all
	err    error
}

// Read implements io.Reader. The first sends 100 (Continue), where the client waits for that.
func (b *codecBody) Read(p []byte) (int, error) {
	b.w.proceed()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed || b.over:
		return 0, http.ErrBodyReadAfterClose
	case b.err != nil:
		return 0, b.err
	}
	body := &b.w.s.q.Body
	n, err := body.Read(p)
	if body.Done() {
		lateFields(b.trailer, body.Trailer())
		err = io.EOF
	}
	var passing interface{ Timeout() bool }
	if !errors.As(err, &passing) {
		b.err = err
	}
	return n, err
}

// Close implements io.Closer.
func (b *codecBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// mostUnread is how much of a body that nobody wants is read so that its connection can be used again. It is net/http's.
const mostUnread = 256 << 10

// drain reads what is left of the body, which is not for the handler any more, for as long as a head may take: who sends nothing
// more gets the answer all the same. It reports whether the end was reached.
func (b *codecBody) drain(s *codecSession) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || s.q.Body.Done() { // who reads on is told of the end
		return true
	}
	b.closed = true
	done := false
	err := s.within(headerTime(s.line.codec.srv), func() (err error) {
		done, err = s.q.Body.Drain(mostUnread)
		return err
	})
	return done && err == nil
}

// end takes the connection from the body, and reports whether that has been read to its end.
func (b *codecBody) end(s *codecSession) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	return s.q.Body.Done()
}
