package config

import (
	"net/netip"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/snapshot"
)

const httpProxy = "HTTP_PROXY"

// speechOf reads the protocol of a listener's port.
func speechOf(protocol string) snapshot.Speech {
	switch strings.ToUpper(protocol) {
	case "":
		return snapshot.SpeaksAny
	case "HTTP", "HTTP2", "GRPC", "GRPC-WEB", httpProxy:
		return snapshot.SpeaksHTTP
	case "HTTPS", "TLS":
		return snapshot.SpeaksTLS
	}
	return snapshot.SpeaksTCP
}

// scopeOf gives the name of the table of a listener that has hosts on all their ports, apart from other listeners: one on a Unix socket, and
// one for programs that know a proxy (istio.io, pilot/pkg/model GetEgressListenerForRDS). "" is the table that the others share.
func scopeOf(l *networking.IstioEgressListener) string {
	switch {
	case strings.HasPrefix(l.GetBind(), unixPrefix):
		return l.GetBind()
	case strings.EqualFold(l.GetPort().GetProtocol(), httpProxy):
		return httpProxy + ":" + strconv.FormatUint(uint64(l.GetPort().GetNumber()), 10)
	}
	return ""
}

// captureMode reads captureMode, whose numbers are those of snapshot.CaptureMode.
func captureMode(m networking.CaptureMode) snapshot.CaptureMode { return snapshot.CaptureMode(m) }

// ingress reads the listeners for callers. A connection pool of the port stands in the place of that for all ports, and is not merged with it.
func (c *compiler) ingress() (all []snapshot.Ingress) {
	spec := c.scope.spec
	for i, l := range spec.GetIngress() {
		pool := l.GetConnectionPool()
		if pool == nil {
			pool = spec.GetInboundConnectionPool()
		}
		bind, _ := netip.ParseAddr(l.GetBind())
		all = append(all, snapshot.Ingress{Port: uint16(l.GetPort().GetNumber()), Bind: bind.Unmap(), Capture: captureMode(l.GetCaptureMode()),
			Speech: speechOf(l.GetPort().GetProtocol()), Endpoint: l.GetDefaultEndpoint(), MaxConnections: int(pool.GetTcp().GetMaxConnections()),
			Origin: c.scope.doc.originOf("spec", "ingress", i, "port")})
	}
	return all
}

// egress reads the listeners for calls that have a port or a socket. The tables are there already.
func (c *compiler) egress() (all []snapshot.Egress) {
	for i, l := range c.scope.spec.GetEgress() {
		if l.GetPort() == nil {
			continue
		}
		own := c.scope.listeners[i]
		e := snapshot.Egress{Port: uint16(l.GetPort().GetNumber()), Bind: l.GetBind(), Capture: captureMode(l.GetCaptureMode()), Speech: own.speech,
			Proxied: own.scope != "", Scope: own.scope, Origin: c.scope.doc.originOf("spec", "egress", i, "port")}
		if own.first != nil {
			e.Host, e.To = own.first.Host, own.first.Port
		}
		all = append(all, e)
	}
	return all
}
