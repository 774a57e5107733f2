package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport/http1"
)

// A sending is a request on its way to the wire. It belongs to the goroutine of its call.
type sending struct {
	req    *http.Request
	ctx    context.Context
	trace  *httptrace.ClientTrace // nil for none
	method string
	host   string
	target string

	body    io.ReadCloser // nil for none
	length  int64         // of the body, -1 where that is not known
	whole   []byte        // the body, where it was read in advance
	store   *[smallBody]byte
	expects bool // the body waits for 100 (Continue)
	closes  bool // the connection ends with this exchange
	waited  bool // a limit on connections has let it through
}

// smallBody is up to how many bytes a body that is in memory anyway is sent together with the head.
const smallBody = 16 << 10

var smallBodies = sync.Pool{New: func() any { return new([smallBody]byte) }}

// prepare reads off the request what net/http does, in its order and with its rules; it reads a small body that is in memory.
func (s *sending) prepare(req *http.Request) error {
	s.req, s.ctx, s.method = req, req.Context(), req.Method
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	s.trace = httptrace.ContextClientTrace(s.ctx)
	if s.method == "" {
		s.method = http.MethodGet
	}
	if s.host = req.Host; s.host == "" {
		s.host = req.URL.Host
	}
	s.host = wireHost(s.host)
	if s.host == "" {
		return refused("http: no Host in request URL")
	}
	s.target = wireTarget(req.URL.RequestURI())
	s.closes = req.Close || s.listed("Connection", "close")
	return s.prepareBody()
}

func refused(text string, args ...any) error {
	return &exchangeError{call.Outcome{Reason: call.ReasonInvalidRequest}, fmt.Errorf(text, args...)}
}

// prepareBody decides how the body is framed (net/http's transferWriter).
func (s *sending) prepareBody() error {
	req := s.req
	switch {
	case req.Body == nil && req.ContentLength != 0:
		return refused("http: Request.ContentLength=%d with nil Body", req.ContentLength)
	case req.Body == nil, req.Body == http.NoBody:
		return nil
	}
	s.body, s.length = req.Body, req.ContentLength
	if s.length == 0 || len(req.TransferEncoding) > 0 && req.TransferEncoding[0] == "chunked" {
		s.length = -1
	}
	if s.length < 0 && lacksBody(s.method) && len(req.TransferEncoding) == 0 {
		if s.probe(); s.body == nil {
			return nil
		}
	}
	if s.length < 0 {
		// An endpoint may refuse the announcement at once: then it would be chance who is heard first.
		for name := range req.Trailer {
			if !http1.IsTrailerName(name) {
				return refused("http: invalid Trailer key %q", name)
			}
		}
	}
	s.expects = s.listed("Expect", "100-continue")
	if s.length > 0 && s.length <= smallBody && !s.expects && inMemory(s.body) {
		return s.readWhole()
	}
	return nil
}

// readWhole takes a small body in.
func (s *sending) readWhole() error {
	s.store = smallBodies.Get().(*[smallBody]byte)
	n, err := io.ReadFull(s.body, s.store[:s.length])
	if err == nil {
		var more [1]byte
		var m int
		m, err = s.body.Read(more[:])
		n += m
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		s.sent(nil)
		return asBodyError(err)
	}
	if int64(n) != s.length {
		s.sent(nil)
		return wrongLength(s.length, int64(n))
	}
	s.whole = s.store[:s.length]
	return nil
}

func wrongLength(announced, found int64) error {
	if found > announced {
		return refused("http: ContentLength=%d with Body length %d or more", announced, found)
	}
	return refused("http: ContentLength=%d with Body length %d", announced, found)
}

// asBodyError marks a failure of the program's body.
func asBodyError(err error) error {
	if own, is := err.(*bodyError); is { //nolint:errorlint // of replay, which never wraps it
		return own
	}
	return &bodyError{err}
}

// atOnce reports that the body goes with the head, or that there is none.
func (s *sending) atOnce() bool { return s.body == nil || s.whole != nil }

// sent ends what was sent with the head, or could not be.
func (s *sending) sent(err error) {
	s.release()
	if s.body != nil {
		_ = s.body.Close()
		s.body = nil
	}
	s.wroteRequest(err)
}

// abandon closes the body of a request that is not sent.
func (s *sending) abandon() {
	s.release()
	if s.body != nil {
		_ = s.body.Close()
		s.body = nil
	}
}

func (s *sending) release() {
	if s.store != nil {
		smallBodies.Put(s.store)
		s.store = nil
	}
}

// head writes the head of the request. last says that no other request follows on the connection, says what its endpoint is told of
// who sends it, in the place of what the program says there; nil for nothing.
func (s *sending) head(w *http1.Writer, last bool, says *Says) {
	req := s.req
	w.Request(s.method, s.target)
	s.field(w, "Host", s.host)
	agent := true
	for name, values := range req.Header {
		switch http1.Identify(name) {
		case http1.FieldHost, http1.FieldContentLength, http1.FieldTransferEncoding, http1.FieldTrailer:
			continue // the request's own fields say these
		case http1.FieldUserAgent:
			if agent = false; len(values) > 0 && values[0] != "" {
				s.field(w, name, values[0])
			}
			continue
		case http1.FieldOther:
			if says != nil && PeerField(name) {
				continue
			}
		default:
		}
		for _, v := range values {
			s.field(w, name, v)
		}
	}
	if agent {
		s.field(w, "User-Agent", "Go-http-client/1.1")
	}
	if says != nil {
		s.field(w, telemetry.PeerMetadata.Canonical(), says.Metadata)
		s.field(w, telemetry.PeerMetadataID.Canonical(), says.ID)
	}
	if last && !s.listed("Connection", "close") {
		s.field(w, "Connection", "close")
	}
	switch {
	case s.body != nil && s.length < 0:
		w.Chunked()
		s.announce(w)
	case s.body != nil:
		w.Length(s.length)
	case s.method == http.MethodPost, s.method == http.MethodPut, s.method == http.MethodPatch:
		w.Length(0)
	}
}

func (s *sending) field(w *http1.Writer, name, value string) {
	w.Field(name, value)
	if s.trace != nil && s.trace.WroteHeaderField != nil {
		s.trace.WroteHeaderField(name, []string{value})
	}
}

// announce writes which trailer fields follow the body.
func (s *sending) announce(w *http1.Writer) {
	if len(s.req.Trailer) == 0 {
		return
	}
	names := make([]string, 0, len(s.req.Trailer))
	for name := range s.req.Trailer {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	slices.Sort(names)
	s.field(w, "Trailer", strings.Join(names, ","))
}

// trailers writes the trailer fields, by now complete, of a chunked body.
func (s *sending) trailers(w *http1.Writer) {
	if s.body != nil && s.length < 0 {
		writeTrailers(w, s.req)
	}
}

func writeTrailers(w *http1.Writer, req *http.Request) {
	for name, values := range req.Trailer {
		for _, v := range values {
			w.Trailer(name, v)
		}
	}
}

// listed reports whether a field of the header lists a token.
func (s *sending) listed(name, token string) bool {
	for _, v := range s.req.Header[name] {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// lacksBody lists the methods whose requests seldom have a body.
func lacksBody(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, "PROPFIND", "SEARCH":
		return true
	}
	return false
}

// wireHost is the host as it is sent: without an IPv6 zone, and in ASCII (RFC 5891).
func wireHost(host string) string {
	if i := strings.LastIndexByte(host, '%'); i >= 0 && strings.HasPrefix(host, "[") {
		if end := strings.LastIndexByte(host, ']'); end > i {
			host = host[:i] + host[end:]
		}
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		host = asciiHost(host)
	}
	return host
}

// wireTarget encodes what net/url lets through in a query and HTTP does not (RFC 3986 §2.1).
func wireTarget(target string) string {
	bad := 0
	for i := range len(target) {
		if target[i] == ' ' || target[i] >= utf8.RuneSelf {
			bad++
		}
	}
	if bad == 0 {
		return target
	}
	const hexDigits = "0123456789ABCDEF"
	out := make([]byte, 0, len(target)+2*bad)
	for i := range len(target) {
		if b := target[i]; b == ' ' || b >= utf8.RuneSelf {
			out = append(out, '%', hexDigits[b>>4], hexDigits[b&15])
		} else {
			out = append(out, b)
		}
	}
	return string(out)
}

func (s *sending) wroteHeaders() {
	if s.trace != nil && s.trace.WroteHeaders != nil {
		s.trace.WroteHeaders()
	}
}

func (s *sending) wroteRequest(err error) {
	if s.trace != nil && s.trace.WroteRequest != nil {
		s.trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
}

// informed tells of an informational answer. Its error is the program's, and ends the request.
func (s *sending) informed(p *http1.Response) error {
	if s.trace == nil {
		return nil
	}
	if s.trace.Got100Continue != nil && p.Status() == http.StatusContinue {
		s.trace.Got100Continue()
	}
	if s.trace.Got1xxResponse == nil {
		return nil
	}
	p.Own()
	return s.trace.Got1xxResponse(p.Status(), textproto.MIMEHeader(headerOf(&p.Fields, false)))
}
