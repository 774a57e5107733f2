package transport

import (
	"errors"
	"io"
	"net/http"
)

// A programBody says of what is wrong with a request's body that it is the program's mistake, for net/http, which gives the
// body's errors away as they are and sends one that is too short over HTTP/2.
type programBody struct {
	io.ReadCloser
	announced, read int64
}

// ownBody gives the request with such a body, or as it is where it has none.
func ownBody(req *http.Request) *http.Request {
	if !hasBody(req) {
		return req
	}
	out := new(http.Request)
	*out = *req
	out.Body = &programBody{ReadCloser: req.Body, announced: req.ContentLength}
	return out
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

// Read implements io.Reader. The end of what was announced is not given away before it is known that nothing follows: an endpoint
// that has a whole request answers it.
func (b *programBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if b.announced > 0 && b.read == b.announced && err == nil {
		var more [1]byte
		var m int
		m, err = io.ReadFull(b.ReadCloser, more[:])
		b.read += int64(m)
	}
	switch {
	case b.announced > 0 && b.read > b.announced:
		return 0, wrongLength(b.announced, b.read)
	case err == nil:
	case !errors.Is(err, io.EOF):
		err = asBodyError(err)
	case b.read < b.announced:
		err = wrongLength(b.announced, b.read)
	}
	return n, err
}
