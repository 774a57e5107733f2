package runtime

import (
	"crypto/tls"
	"log/slog"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/jwt"
)

// newKeys makes what fetches the keys of tokens, and calls changed when they have. It speaks TLS as the program's calls to hosts
// that the mesh does not know.
func newKeys(o Options, clientTLS *tls.Config, changed func()) *jwt.Fetcher {
	return jwt.NewFetcher(jwt.FetcherOptions{Dial: o.Dial, Loopback: o.LoopbackKeys, TLS: clientTLS, Rand: o.Rand,
		Report: func(e jwt.FetchEvent) {
			changed()
			tellKeys(o.Logger, e)
		}})
}

func tellKeys(log *slog.Logger, e jwt.FetchEvent) {
	source := e.Source.String()
	switch {
	case e.Err == nil:
		log.Info("mesh keys of tokens fetched", "source", source, "keys", e.Keys)
	case e.Keys > 0:
		log.Warn("mesh keys of tokens cannot be fetched, the last good ones count for now", "source", source, "until", e.Until,
			"error", call.Printable(e.Err.Error()))
	default:
		log.Error("mesh keys of tokens cannot be fetched: the tokens are refused", "source", source, "error", call.Printable(e.Err.Error()))
	}
}
