package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/heddlemesh/mesh/internal/handover"
	"github.com/heddlemesh/mesh/internal/socket"
	"github.com/heddlemesh/mesh/proxy"
)

// A succession takes the sockets of an older process over, and gives ours to a newer one.
type succession struct {
	path  string
	taken *handover.Taken // nil where there was no older one
	offer *handover.Offer // nil before succeed
	log   *slog.Logger

	mu      sync.Mutex     // guards what follows
	adopted []net.Listener // while their paths are the older one's
	ours    bool           // nothing is the older one's any more
}

// takeOver asks who serves at the path for its sockets; "" is nobody.
func takeOver(ctx context.Context, path string, log *slog.Logger) (*succession, error) {
	s := &succession{path: path, log: log}
	if path == "" {
		return s, nil
	}
	var err error
	s.taken, err = handover.Take(ctx, path)
	return s, err
}

// listen is proxy.Config.Listen.
func (s *succession) listen(network, address string) (net.Listener, error) {
	if l := s.taken.Listener(socketName(network, address)); l != nil {
		return s.adopt(socket.Adopt(l, address)), nil
	}
	if network == "unix" {
		return socket.Listen(address)
	}
	var c net.ListenConfig
	c.SetMultipathTCP(false) // see proxy.Config.Listen
	return c.Listen(context.Background(), network, address)
}

// adopt leaves the path of a Unix socket to the older process until that has stopped: where ours comes to nothing it is still there.
func (s *succession) adopt(l net.Listener) net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ours {
		socket.Own(l)
	} else {
		s.adopted = append(s.adopted, l)
	}
	return l
}

func (s *succession) own() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.adopted {
		socket.Own(l)
	}
	s.adopted, s.ours = nil, true
}

// listenPacket is proxy.Config.ListenPacket.
func (s *succession) listenPacket(network, address string) (net.PacketConn, error) {
	if c := s.taken.PacketConn(socketName(network, address)); c != nil {
		return c, nil
	}
	return new(net.ListenConfig).ListenPacket(context.Background(), network, address)
}

// socketName is what a socket is handed over by.
func socketName(network, address string) string { return network + " " + address }

// succeed has the older process stop accepting, and offers the sockets from here on. What it gives is closed when a newer one has them.
func (s *succession) succeed(ctx context.Context, sidecar *proxy.Sidecar) (<-chan struct{}, error) {
	if s.path == "" {
		return nil, nil
	}
	if s.taken != nil {
		if err := s.taken.Ready(ctx); err != nil {
			return nil, err
		}
		s.own()
		s.log.Info("the listeners of an older process were taken over", "socket", s.path)
	}
	ceded := make(chan struct{})
	offer, err := handover.Serve(s.path, func() []handover.Socket { return socketsOf(sidecar) }, func() {
		sidecar.Cede()
		close(ceded)
	}, func(err error) { s.log.Warn("nobody has taken over", "error", err) })
	switch {
	case errors.Is(err, handover.ErrUnsupported):
		return nil, err
	case err != nil: // it serves all the same; the next one cannot take over
		s.log.Error("no successor can take the listeners over", "error", err)
		return nil, nil
	}
	s.offer = offer
	return ceded, nil
}

// socketsOf gives what a sidecar listens with at the moment.
func socketsOf(sidecar *proxy.Sidecar) (all []handover.Socket) {
	for _, l := range sidecar.Listeners() {
		all = append(all, handover.Socket{Name: socketName(l.Addr().Network(), strings.TrimPrefix(l.Address, "unix://")), Closer: l.Listener})
	}
	for _, c := range sidecar.PacketConns() {
		all = append(all, handover.Socket{Name: socketName("udp", c.Address), Closer: c.PacketConn})
	}
	return all
}

// close ends the offer, and lets go of what was not taken.
func (s *succession) close() {
	s.taken.Close()
	if s.offer != nil {
		s.offer.Close()
	}
}
