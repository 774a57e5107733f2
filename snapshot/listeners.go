package snapshot

import "net/netip"

// A Speech is what connections of a listener carry, by the protocol that a document gives its port.
type Speech uint8

const (
	SpeaksAny  Speech = iota // it says nothing: what comes first tells
	SpeaksHTTP               // HTTP, HTTP2, GRPC
	SpeaksTLS                // TLS, HTTPS: outbound it is told by the name in the ClientHello
	SpeaksTCP                // what is neither
)

// A CaptureMode says how connections come to a listener (Sidecar captureMode).
type CaptureMode uint8

const (
	CaptureDefault CaptureMode = iota // as the sidecar takes others
	CaptureRules                      // rules of the kernel redirect them (IPTABLES)
	CaptureNone                       // the sidecar listens itself
)

// An Ingress is one listener for callers of the workload (Sidecar.ingress). It is comparable.
type Ingress struct {
	Port    uint16
	Bind    netip.Addr // the zero one for every address of the machine
	Capture CaptureMode
	Speech  Speech
	// Endpoint is where the program listens: "unix:///path", or an address and a port, of which an unspecified one stands for the machine's
	// own. "" is where the connection meant to go.
	Endpoint string
	// MaxConnections is Inbound.MaxConnections of this port.
	MaxConnections int
	Origin         string // where it is written: kind, name, field, file:line:column
}

// An Egress is one listener for calls of the program that has a port, or a socket, of its own (Sidecar.egress). It is comparable.
type Egress struct {
	Port    uint16 // 0 for a Unix socket
	Bind    string // an IP address, unix:///path or unix://@name; "" for none written
	Capture CaptureMode
	Speech  Speech
	Proxied bool   // requests name the port, as to a forward proxy: of a Unix socket, and of protocol HTTP_PROXY
	Scope   string // whose table has its hosts: Mesh, or one that is its own
	// Host and To are where connections go that nothing tells apart: the first host of the listener. "" where it has none.
	Host   string
	To     uint16
	Origin string // as Ingress.Origin
}

// At gives the listener for a port that connections were captured on their way to; nil for none.
func (in *Inbound) At(to netip.AddrPort) *Ingress {
	for i := range in.Listeners {
		if l := &in.Listeners[i]; l.Port == to.Port() && (!l.Bind.IsValid() || l.Bind.IsUnspecified() || l.Bind == to.Addr().Unmap()) {
			return l
		}
	}
	return nil
}

// Most gives how many connections that are not HTTP a port takes, 0 for any number.
func (in *Inbound) Most(port uint16) int {
	for i := range in.Listeners {
		if in.Listeners[i].Port == port {
			return in.Listeners[i].MaxConnections
		}
	}
	return in.MaxConnections
}
