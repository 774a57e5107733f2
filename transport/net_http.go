package transport

import (
	"net/http"
	"slices"
)

// What net/http repeats by itself, and how it is kept from that.

// hideKeys respells the header keys by which net/http decides to send a request again. On the wire field names
// have no case.
func hideKeys(h http.Header) {
	for _, key := range [...]struct{ seen, hidden string }{
		{"Idempotency-Key", "idempotency-key"}, {"X-Idempotency-Key", "x-idempotency-key"},
	} {
		if v, ok := h[key.seen]; ok {
			delete(h, key.seen)
			h[key.hidden] = append(slices.Clip(h[key.hidden]), v...) // the program may have spelled it so itself
		}
	}
}

func idempotencyKeys(h http.Header) bool {
	if len(h) == 0 {
		return false
	}
	_, ok := h["Idempotency-Key"]
	if !ok {
		_, ok = h["X-Idempotency-Key"]
	}
	return ok // with or without a value: net/http looks for the key only
}

// safe lists the methods that net/http repeats by itself.
func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}
