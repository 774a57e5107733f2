package proxy

import (
	"errors"
	"net"
	"time"

	"github.com/heddlemesh/mesh/snapshot"
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
		s.reach(s.tally())
		return
	}
	host, port, name := s.wire.fixed.Host, s.wire.fixed.Port, ""
	if t := s.wire.mesh.engine.Snapshot().Tables[snapshot.Mesh]; t != nil {
		if v, _ := t.Lookup(host, port); v != nil && v.Named() {
			var ok bool
			if _, name, ok = s.first(true); !ok {
				return
			}
		}
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
	options := []transport.InboundOption{transport.WithOpaque()}
	if !s.config.Mesh.Inbound().Identified() { // who could be asked for by TLS
		options = append(options, transport.WithServerFirst())
	}
	return options
}
