package proxy

import (
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
)

// maxInformational is how many 1xx answers to one request are passed on. There is no end to them by itself.
const maxInformational = 8

var errInformational = errors.New("more than 8 informational responses")

// An informational passes 1xx answers on while the call is under way. 100 (Continue) is not among them: the
// server sends its own as soon as the body is read, and that is when the endpoint has asked for it.
type informational struct {
	w        http.ResponseWriter
	relay    bool // HTTP/1.0 knows no 1xx
	trace    httptrace.ClientTrace
	mu       sync.Mutex // guards what follows
	ended    bool
	received int
}

func newInformational(w http.ResponseWriter, r *http.Request) *informational {
	i := &informational{w: w, relay: r.ProtoAtLeast(1, 1)}
	i.trace.Got1xxResponse = i.got
	return i
}

func (i *informational) got(code int, header textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return nil // the header belongs to the answer by now
	}
	if i.received++; i.received > maxInformational {
		return errInformational
	}
	if code == http.StatusContinue || !i.relay {
		return nil
	}
	h := i.w.Header()
	copyResponseHeader(h, http.Header(header))
	i.w.WriteHeader(code)
	clear(h)
	return nil
}

// end says that the call is over and reports whether the endpoint sent too many.
func (i *informational) end() (over bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	return i.received > maxInformational
}
