package proxy

import (
	"errors"
	"net"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// straight serves a connection of a listener of which it is known what it is for: to the program, where policies have let it in
// already, or to one host.
func (s *session) straight() {
	s.began = time.Now()
	if at, ok := s.nc.LocalAddr().(*net.TCPAddr); ok && s.wire.opaque {
		s.to = at.AddrPort()
	}
	if s.wire.opaque {
		s.tell()
		s.reach(s.tally())
		return
	}
	host, port, name := s.wire.fixed.Host, s.wire.fixed.Port, ""
	named := s.wire.named
	if t := s.wire.table(); t != nil && !named {
		v, _ := t.Lookup(host, port)
		named = v != nil && v.Named()
	}
	if named {
		var ok bool
		if _, name, ok = s.first(true); !ok {
			return
		}
	}
	if s.wire.named {
		host = s.named(name, "", port)
	}
	if host == "" {
		s.refuse(s.to, LocalReply{Flag: "NR", Reason: call.ReasonNoRoute.String(), Text: "the listener has no host for the connection"})
		return
	}
	s.call(host, port, name)
}

// openTCP opens the listeners for what programs speak that is not HTTP.
func (s *Sidecar) openTCP() error {
	c := &s.config
	if len(c.OutboundTCP) > 0 && c.Guard == nil {
		return errors.New("OutboundTCP needs a Guard: by it the sidecar knows its own listeners")
	}
	for i := range c.OutboundTCP {
		to := &c.OutboundTCP[i]
		srv, err := s.listen("outbound", to.Listen, &forwarder{direction: "outbound", target: outboundTarget})
		if err != nil {
			return err
		}
		srv.wire = newOutboundWire(srv.forward, srv.l, s.wheel, c.Mesh, c.Guard)
		srv.wire.fixed = to
		srv.wire.countBuffers(&s.held)
		s.tcp = append(s.tcp, srv)
	}
	return nil
}

// TCPAddrs says where programs reach hosts by what is not HTTP, in the order of Config.OutboundTCP.
func (s *Sidecar) TCPAddrs() []net.Addr {
	var all []net.Addr
	for _, srv := range s.tcp {
		all = append(all, srv.l.Addr())
	}
	return all
}

// taken says how a listener takes its callers.
func (s *Sidecar) taken(srv *server) []transport.InboundOption {
	if !srv.opaque {
		return nil
	}
	options := []transport.InboundOption{transport.WithOpaque(), transport.WithPeerExchange()}
	if !s.config.Mesh.Inbound().Identified() { // who could be asked for by TLS
		options = append(options, transport.WithServerFirst())
	}
	return options
}
