package proxy

import (
	"net"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/internal/socket"
)

// A BoundListener is a listening socket of a sidecar, by the address that it was configured with.
type BoundListener struct {
	Address string
	net.Listener
}

// A BoundPacketConn is a socket of UDP of a sidecar, by the address that it was configured with.
type BoundPacketConn struct {
	Address string
	net.PacketConn
}

// Listeners gives the sockets that the sidecar listens with, for a successor whose Config.Listen gives them in the place of new ones. They are the
// sidecar's: nobody else closes them.
func (s *Sidecar) Listeners() []BoundListener {
	var all []BoundListener
	for _, srv := range s.servers() {
		l := srv.l.Listener
		if capped, ok := l.(*cappedListener); ok {
			l = capped.Listener
		}
		all = append(all, BoundListener{srv.address, l})
	}
	if s.dns != nil {
		for _, l := range s.dns.Listeners() {
			all = append(all, BoundListener{l.Addr().String(), l})
		}
	}
	return all
}

// PacketConns gives the sockets by which DNS queries come over UDP, for a successor whose Config.ListenPacket gives them in the place of new
// ones. They are the sidecar's: nobody else closes them.
func (s *Sidecar) PacketConns() []BoundPacketConn {
	if s.dns == nil {
		return nil
	}
	var all []BoundPacketConn
	for i, c := range s.dns.PacketConns() {
		all = append(all, BoundPacketConn{s.config.DNS.Listen[i], c})
	}
	return all
}

// Cede stops accepting on all listeners, and reading DNS queries, and leaves the sockets and who waits in their queues to a successor that has
// them too. It returns when nothing is accepted any more; what is under way goes on until Shutdown. Without a successor, who waits would be
// reset.
func (s *Sidecar) Cede() {
	s.ceded.Store(true)
	s.declared.halt()
	var all sync.WaitGroup
	for _, srv := range s.servers() {
		all.Go(srv.l.cede)
	}
	if s.dns != nil {
		all.Go(s.dns.Cede)
	}
	all.Wait()
}

// cede is stop for a socket that somebody else accepts from.
func (l *gentleListener) cede() {
	l.ceded.Store(true)
	l.stopping.Store(true)
	socket.Leave(l.Listener)
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); !ok || d.SetDeadline(past) != nil {
		_ = l.Listener.Close()
	}
	select {
	case <-l.quiet:
	case <-l.closed:
	}
}
