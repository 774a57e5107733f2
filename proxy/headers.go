package proxy

import (
	"net/http"
	"net/textproto"
	"strings"

	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// hopByHop reports fields that concern one connection only (RFC 9110 §7.6.1, and those that older clients
// send as if they did). The key is in canonical form.
func hopByHop(key string) bool {
	switch key {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization", "Http2-Settings":
		return true
	}
	return false
}

// reserved reports fields that nobody outside may set: the mesh's own, what peers tell each other of their workloads, and the identity
// of a verified peer, for which Envoy too takes a plaintext client's word for nothing. Programs that turn headers into variables
// read "_" as "-", so that spelling counts too.
func reserved(key string) bool {
	if key == "" || key[0] != 'X' && key[0] != 'x' {
		return false
	}
	if strings.IndexByte(key, '_') >= 0 {
		key = textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(key, "_", "-"))
	}
	return key == "X-Forwarded-Client-Cert" || strings.HasPrefix(key, "X-Heddle-") || transport.PeerField(key)
}

// claims reports fields of a request that whoever asks may not say: on the inbound side the mesh's handler has taken them off.
func claims(r *http.Request, key string) bool {
	_, proved := transport.PeerFromContext(r.Context())
	return transport.Claims(key, proved)
}

// protected reports fields that Connection cannot nominate for removal: what frames, routes, authenticates or
// traces a message is not a client's to take away between here and the program.
func protected(key string) bool {
	switch key {
	case "Host", "Content-Length", "Content-Type", "Content-Encoding", "Date", "Expect",
		"Authorization", "Cookie", "Set-Cookie", "Www-Authenticate", "Forwarded", "X-Real-Ip", "X-Request-Id",
		"Traceparent", "Tracestate", "Baggage", "B3", "Sw8", "X-Ot-Span-Context", "X-Cloud-Trace-Context",
		"X-Amzn-Trace-Id", "Idempotency-Key", "X-Idempotency-Key":
		return true
	}
	for _, p := range [...]string{"X-Forwarded-", "X-Envoy-", "X-B3-", "X-Datadog-", "X-Heddle-", "Grpc-", "Sec-"} {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// requestHeader gives the header that goes on: the request's own where nothing changes, otherwise a copy.
// protocol is the upgrade that is asked for on, "" for none.
func requestHeader(r *http.Request, protocol string) http.Header {
	h := r.Header
	_, agent := h["User-Agent"]
	changes := !agent || protocol != ""
	for k := range h {
		if changes {
			break
		}
		changes = hopByHop(k) || reserved(k) || claims(r, k) || k == "Host" || k == "Expect"
	}
	if !changes {
		return h
	}
	out := make(http.Header, len(h)+2)
	nominated := h["Connection"]
	for k, v := range h {
		if k == "Host" || hopByHop(k) || reserved(k) || claims(r, k) || nominated != nil && nominates(nominated, k) && !protected(k) {
			continue
		}
		out[k] = v
	}
	if listed(h["Te"], "trailers") {
		out["Te"] = []string{"trailers"} // gRPC refuses to go without, and trailers are passed on
	}
	if !r.ProtoAtLeast(1, 1) {
		delete(out, "Expect") // RFC 9110 §10.1.1
	}
	if !agent {
		out["User-Agent"] = nil // otherwise net/http writes its own
	}
	if protocol != "" {
		out["Connection"] = []string{"Upgrade"}
		out["Upgrade"] = []string{protocol}
	}
	return out
}

// copyResponseHeader puts what goes on of a response's header into dst.
func copyResponseHeader(dst, src http.Header) {
	nominated := src["Connection"]
	for k, v := range src {
		if hopByHop(k) || reserved(k) || http1.FramingAlike(k) || nominated != nil && nominates(nominated, k) && !protected(k) {
			continue
		}
		dst[k] = v
	}
}

// forbiddenTrailer reports fields that must not come after the body: what was decided on is decided, and a
// late field would get past those who did (RFC 9110 §6.5.1).
func forbiddenTrailer(key string) bool {
	return hopByHop(key) || reserved(key) || http1.FramingAlike(key) || protected(key) && !strings.HasPrefix(key, "Grpc-") ||
		strings.HasPrefix(key, "If-") || key == "Cache-Control" || key == "Location" || key == "Range"
}

// nominates reports whether the values of Connection name the field.
func nominates(connection []string, key string) bool { return listed(connection, key) }

// listed reports whether a token stands in comma-separated values, in any case.
func listed(values []string, token string) bool {
	for _, v := range values {
		for v != "" {
			var one string
			one, v, _ = strings.Cut(v, ",")
			if strings.EqualFold(strings.Trim(one, " \t"), token) {
				return true
			}
		}
	}
	return false
}
