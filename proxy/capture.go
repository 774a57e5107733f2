package proxy

import (
	"errors"
	"net"

	"github.com/heddlemesh/mesh/internal/capture"
)

// openCapture opens the listeners for captured connections.
func (s *Sidecar) openCapture() error {
	c := &s.config
	if len(c.Capture.Outbound)+len(c.Capture.Inbound) == 0 {
		return nil
	}
	if c.Guard == nil {
		return errors.New("captured connections need a Guard: by it the sidecar knows its own")
	}
	c.Guard.Watch()
	if c.Capture.TPROXY {
		if err := capture.CheckTransparent(); err != nil {
			return err
		}
	}
	for _, address := range c.Capture.Outbound {
		captor := newCaptor(c.Capture, c.Guard, nil)
		captor.names = s.names
		srv, err := s.listen("outbound", address, &forwarder{direction: "outbound", target: captor.outboundTarget, tell: c.OnCall, via: callers(c.Mesh, c.OnCall)})
		if err != nil {
			return err
		}
		srv.wire = newOutboundWire(srv.forward, srv.l, s.wheel, c.Mesh, c.Guard)
		s.capture(srv, captor)
	}
	for _, address := range c.Capture.Inbound {
		captor, e := newCaptor(c.Capture, c.Guard, c.Mesh.Inbound()), c.Mesh.Engine()
		captor.engine = e
		srv, err := s.listen("captured", address, &forwarder{direction: "inbound", target: captor.inboundTarget(e), via: captor.via})
		if err != nil {
			return err
		}
		if c.Capture.TPROXY {
			if err := capture.Transparent(srv.l.Listener); err != nil {
				_ = srv.l.Close()
				return err
			}
		}
		srv.http.Handler = c.Mesh.Handler(srv.http.Handler)
		srv.wire = newInboundWire(srv.forward, srv.l, s.wheel, e, nil)
		s.capture(srv, captor)
	}
	return nil
}

func (s *Sidecar) capture(srv *server, by *captor) {
	srv.captor, srv.wire.captor = by, by
	srv.http.ConnContext = by.connContext
	srv.wire.countBuffers(&s.held)
	s.captured = append(s.captured, srv)
}

// CaptureAddrs says where captured connections arrive: Capture.Outbound, then Capture.Inbound, in their order.
func (s *Sidecar) CaptureAddrs() []net.Addr {
	var all []net.Addr
	for _, srv := range s.captured {
		all = append(all, srv.l.Addr())
	}
	return all
}

// capturing gives the servers of captured connections of one direction.
func (s *Sidecar) capturing(direction string) []*server {
	var all []*server
	for _, srv := range s.captured {
		if srv.forward.direction == direction {
			all = append(all, srv)
		}
	}
	return all
}

// Unheard says of how many captured connections it is not known yet what they speak.
func (s *Sidecar) Unheard() int {
	n := 0
	for _, srv := range s.captured {
		n += srv.captor.unheard.count()
	}
	return n
}
