package transport

import (
	"net/http"

	"github.com/heddlemesh/mesh/transport/http1"
)

// What a mesh says to its programs in fields of a request, nobody else may say. Who is proved to be of the mesh may, but for
// what never leaves a program.

const (
	ownPrefix   = "x-heddle-"
	envoyPrefix = "x-envoy-"
)

// passed are the fields of Envoy's that anybody may send: they only tell, or shorten a time.
var passed = [...]string{"x-envoy-attempt-count", "x-envoy-expected-rq-timeout-ms", "x-envoy-is-timeout-retry"}

// Claims reports a field, in any case, that a request is not to bring along: x-heddle-…, those by which peers tell each other of their
// workloads, which end here (PeerField), and of a caller who is not proved to
// be of the mesh x-envoy-…, by which proxies tell of addresses, paths and retries (Envoy, http_conn_man/headers and
// router_filter). Programs that make variables of fields read '_' as '-', and so does this.
func Claims(name string, proved bool) bool {
	if len(name) < len(envoyPrefix) || name[0]|0x20 != 'x' {
		return false
	}
	if !http1.Alike(name[:len(envoyPrefix)], envoyPrefix) {
		return len(name) >= len(ownPrefix) && http1.Alike(name[:len(ownPrefix)], ownPrefix)
	}
	if proved {
		return PeerField(name)
	}
	for _, ok := range passed {
		if len(name) == len(ok) && http1.Alike(name, ok) {
			return false
		}
	}
	return true
}

// unclaimed gives the header without such fields: h itself where there are none.
func unclaimed(h http.Header, proved bool) http.Header {
	for name := range h {
		if !Claims(name, proved) {
			continue
		}
		kept := make(http.Header, len(h))
		for name, values := range h {
			if !Claims(name, proved) {
				kept[name] = values
			}
		}
		return kept
	}
	return h
}
