package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// lingerTimeout is how long an HTTP/1 client whose request body nobody wants to its end may go on sending,
// so that it reads the answer before the connection ends.
const lingerTimeout = time.Second

// A requestBody is a request's body on its way to the endpoint. It outlives neither the handler, whatever
// net/http's transport still does with it, nor does its Close close anything: the body is the server's. It
// notes how far it was read and whose fault an error is.
type requestBody struct {
	r       *http.Request
	w       http.ResponseWriter
	trailer http.Header // what goes out: its keys are fixed, the values are filled in at the end

	mu      sync.Mutex // guards what follows
	idle    sync.Cond  // no Read is under way
	reading bool
	closed  bool
	eof     bool
	read    int64
	err     error
}

// newRequestBody gives nil where the request has no body.
func newRequestBody(w http.ResponseWriter, r *http.Request) *requestBody {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	b := &requestBody{r: r, w: w}
	b.idle.L = &b.mu
	for k := range r.Trailer {
		if !forbiddenTrailer(k) {
			if b.trailer == nil {
				b.trailer = make(http.Header, len(r.Trailer))
			}
			// One value each, so that the map itself never changes: the transport lists its keys when an
			// attempt begins, while the reader of an abandoned one may just have come to the end.
			b.trailer[k] = []string{""}
		}
	}
	if r.ProtoMajor == 1 {
		// An answer may begin before the body has ended; otherwise net/http would first swallow the rest.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	return b
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	b.reading = true
	b.mu.Unlock()
	n, err := b.r.Body.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	b.read += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		b.eof = true
		for k, v := range b.trailer {
			v[0] = strings.Join(b.r.Trailer[k], ", ")
		}
	case err != nil && !b.closed:
		b.err = err
	}
	if b.closed {
		b.idle.Broadcast()
	}
	return n, err
}

// Close implements io.Closer.
func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// complete reports whether the client has sent all of the body.
func (b *requestBody) complete() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.eof || b.r.ContentLength >= 0 && b.read >= b.r.ContentLength
}

// broken gives what was wrong with the body as the client sent it, nil for nothing.
func (b *requestBody) broken() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// ends reports whether a read ends for which a deadline has been set with the error: one of a connection that is closed by
// now does so by itself.
func ends(err error) bool {
	return err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// stop ends the body before the handler returns: after that net/http must not be asked for more. It waits for
// a Read that is under way, which it interrupts where the client is what that waits for.
func (b *requestBody) stop() {
	if b == nil {
		return
	}
	whole := b.complete()
	rc := http.NewResponseController(b.w)
	b.mu.Lock()
	b.closed = true
	if b.reading && (whole || ends(rc.SetReadDeadline(past))) {
		for b.reading {
			b.idle.Wait()
		}
	}
	b.mu.Unlock()
	if !whole && b.r.ProtoMajor == 1 {
		_ = rc.SetReadDeadline(time.Now().Add(lingerTimeout)) // for what net/http still reads of it
	}
}
