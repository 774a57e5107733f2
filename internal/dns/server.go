package dns

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Port is Istio's for DNS.
const Port = 15053

// The bounds of what a Server does at a time.
const (
	mostWaiting = 512 // queries that wait for name servers; more are told SERVFAIL
	mostStreams = 128 // connections of TCP; more are closed
	streamIdle  = 10 * time.Second
	streamLast  = time.Second // instead, when the sockets are somebody else's
)

// Config is what a Server is made of.
type Config struct {
	// Addresses are where it is asked, by UDP and TCP: of loopback, as nobody else is answered. A port 0 is chosen by the system.
	Addresses []string
	// Listen and ListenPacket open "tcp" and "udp" addresses; the latter gives a *net.UDPConn. Default: those of package net.
	Listen       func(network, address string) (net.Listener, error)
	ListenPacket func(network, address string) (net.PacketConn, error)
	// Zone gives what it answers by itself at the moment. It is called for each query, and concurrently.
	Zone func() *Zone
	// Upstreams are asked for everything else. Default: the name servers of /etc/resolv.conf, which is read again when it changes.
	Upstreams []netip.AddrPort
	// ResolvConf is the file for servers and search domain. Default: /etc/resolv.conf.
	ResolvConf string
	// Failed hears why name servers gave no answer. It is called concurrently, and must not wait. Default: nobody does.
	Failed func(name string, err error)
	// Now is the clock of times to live. Default: time.Now.
	Now func() time.Time
}

// Counts are what became of the queries of a Server.
type Counts struct {
	Mesh    uint64 // answered from the zone
	Cached  uint64
	Asked   uint64 // answered by name servers
	Failed  uint64 // no name server answered, or too many queries waited
	Refused uint64 // malformed, from another machine, or our own
}

// A Server answers queries between Serve and Close.
type Server struct {
	config  Config
	system  systemFile
	up      upstream
	cache   cache
	locals  locals
	packets []*net.UDPConn
	streams []net.Listener
	waiting chan struct{}
	serving chan struct{} // connections

	ctx     context.Context
	cancel  context.CancelFunc
	ceded   atomic.Bool    // somebody else reads from the sockets
	reading sync.WaitGroup // who reads from the sockets
	running sync.WaitGroup // who answers

	mesh, cached, asked, failed, refused atomic.Uint64
}

// Listen opens a server's sockets. Where one of the addresses cannot be had none is.
func Listen(c Config) (*Server, error) {
	s := &Server{config: c, waiting: make(chan struct{}, mostWaiting), serving: make(chan struct{}, mostStreams)}
	if s.config.Now == nil {
		s.config.Now = time.Now
	}
	if s.config.Listen == nil {
		s.config.Listen = net.Listen
	}
	if s.config.ListenPacket == nil {
		s.config.ListenPacket = net.ListenPacket
	}
	s.system = systemFile{path: cmp.Or(c.ResolvConf, resolvConf), servers: c.Upstreams, now: s.config.Now}
	s.up = upstream{system: s.system.get, not: s.listensOn}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, address := range c.Addresses {
		if err := s.open(address); err != nil {
			s.Close()
			return nil, fmt.Errorf("listen dns %s: %w", address, err)
		}
	}
	return s, nil
}

// Serve begins to answer. It is called once, and does not wait.
func (s *Server) Serve() {
	for i := range s.packets {
		s.reading.Go(func() { s.servePackets(s.packets[i]) })
		s.reading.Go(func() { s.serveStreams(s.streams[i]) })
	}
}

// open listens by UDP and TCP on one port.
func (s *Server) open(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !at.Addr().Unmap().IsLoopback() {
		return errors.New("not a loopback address: names are for the programs of this machine only")
	}
	const tries = 16 // of ports that are free for one of the two
	for range tries {
		var packets *net.UDPConn
		if packets, err = s.listenUDP(address); err != nil {
			return err
		}
		var stream net.Listener
		if stream, err = s.config.Listen("tcp", packets.LocalAddr().String()); err == nil {
			s.packets, s.streams = append(s.packets, packets), append(s.streams, stream)
			return nil
		}
		_ = packets.Close()
		if at.Port() != 0 {
			break
		}
	}
	return err
}

func (s *Server) listenUDP(address string) (*net.UDPConn, error) {
	c, err := s.config.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	udp, ok := c.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a %T is no *net.UDPConn", c), c.Close())
	}
	return udp, nil
}

// Listeners and PacketConns give the sockets, in the order of Config.Addresses, for a successor.
func (s *Server) Listeners() []net.Listener { return s.streams }

// PacketConns gives those of UDP.
func (s *Server) PacketConns() []*net.UDPConn { return s.packets }

// Addrs say where it is asked, in the order of Config.Addresses.
func (s *Server) Addrs() []netip.AddrPort {
	var all []netip.AddrPort
	for _, p := range s.packets {
		all = append(all, p.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	return all
}

func (s *Server) listensOn(a netip.AddrPort) bool {
	for _, own := range s.Addrs() {
		if own == netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) {
			return true
		}
	}
	return false
}

// Counts says what it has done so far.
func (s *Server) Counts() Counts {
	return Counts{s.mesh.Load(), s.cached.Load(), s.asked.Load(), s.failed.Load(), s.refused.Load()}
}

// Cede leaves the sockets, and the queries and connections in their queues, to a successor that has them too. It returns when nothing is read
// from them any more. Queries that were read are answered, and connections go on, until Close.
func (s *Server) Cede() {
	s.ceded.Store(true)
	past := time.Unix(1, 0)
	for i := range s.packets {
		_ = s.packets[i].SetReadDeadline(past)
		if l, ok := s.streams[i].(interface{ SetDeadline(time.Time) error }); !ok || l.SetDeadline(past) != nil {
			_ = s.streams[i].Close()
		}
	}
	s.reading.Wait()
}

// Wait returns when, after Cede, all queries are answered and no connection is left, or ctx ends.
func (s *Server) Wait(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Close ends it, and waits for its goroutines. Queries that wait get no answer.
func (s *Server) Close() {
	s.cancel()
	for _, p := range s.packets {
		_ = p.Close()
	}
	for _, l := range s.streams {
		_ = l.Close()
	}
	s.reading.Wait()
	s.running.Wait()
}

// servePackets answers by UDP: at once what needs nobody else.
func (s *Server) servePackets(conn *net.UDPConn) {
	var q query
	in, out := make([]byte, largestUDP), make([]byte, 0, largestUDP)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(in)
		if err != nil && s.ended(err) {
			return
		}
		if err != nil || s.foreign(from) {
			continue
		}
		answer, known := s.known(&q, in[:n], out[:0], 0)
		if known {
			s.send(conn, from, &q, answer)
			continue
		}
		select {
		case s.waiting <- struct{}{}:
			kept := q.own()
			s.running.Go(func() {
				defer func() { <-s.waiting }()
				s.send(conn, from, kept, s.ask(kept))
			})
		default:
			s.failed.Add(1)
			s.send(conn, from, &q, q.fail(out[:0], codeServerFailure))
		}
	}
}

// ended reports whether a socket that has failed is not read from again.
func (s *Server) ended(err error) bool { return errors.Is(err, net.ErrClosed) || s.ceded.Load() }

// send cuts what is too long for UDP. An answer that cannot be sent is one that is asked for again.
func (s *Server) send(conn *net.UDPConn, to netip.AddrPort, q *query, answer []byte) {
	if len(answer) == 0 {
		return
	}
	if len(answer) > q.limit {
		answer = q.cut(nil, word(answer, 2)&maskCode)
	}
	_, _ = conn.WriteToUDPAddrPort(answer, to)
}

// foreign reports whether a query is none that is answered: it comes from another machine, or from ourselves.
func (s *Server) foreign(from netip.AddrPort) bool {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if s.locals.has(from.Addr(), s.config.Now()) && !s.up.sent(from) {
		return false
	}
	s.refused.Add(1)
	return true
}

// known answers what needs no name server, into out, which is empty. Without an answer the query is to be dropped; ok is false where
// one has to be asked. limit is how long an answer may be, 0 for what the client says.
func (s *Server) known(q *query, message, out []byte, limit int) (answer []byte, ok bool) {
	code, drop := q.read(message)
	q.limit = max(q.limit, limit)
	if drop || code != 0 {
		s.refused.Add(1)
		if drop {
			return nil, true
		}
		return q.fail(out, code), true
	}
	e, target := s.entry(q)
	if e != nil {
		if answer, ok = q.answer(e, target, out); ok {
			s.mesh.Add(1)
			return answer, true
		}
	}
	var room [maxName + 16]byte
	if answer = s.cache.get(q, q.key(room[:0]), out, s.config.Now()); answer != nil {
		s.cached.Add(1)
		return there(e, answer), true
	}
	return nil, false
}

func (s *Server) entry(q *query) (*entry, []byte) {
	if q.class != classIN {
		return nil, nil
	}
	return s.config.Zone().find(q.name, s.system.get().search)
}

// ask has name servers answer.
func (s *Server) ask(q *query) []byte {
	key := string(q.key(nil))
	e, _ := s.entry(q)
	var out []byte
	message, err := s.up.ask(s.ctx, q, key, func() bool {
		out = s.cache.get(q, []byte(key), nil, s.config.Now())
		return out != nil
	}, func(answer []byte) { s.cache.put(key, answer, s.config.Now()) })
	switch {
	case err == nil && message == nil: // it came between the look into the cache and here
		s.cached.Add(1)
		return there(e, out)
	case err != nil:
		s.failed.Add(1)
		if s.ctx.Err() != nil {
			return nil
		}
		if s.config.Failed != nil {
			s.config.Failed(string(q.name), err)
		}
		return q.fail(nil, codeServerFailure)
	}
	s.asked.Add(1)
	return there(e, q.reply(message, 0, make([]byte, 0, len(message)+optLen)))
}

// there takes the word of name servers that a name is not there for that it has nothing of the type, where the zone has it.
func there(e *entry, answer []byte) []byte {
	if e != nil && word(answer, 2)&maskCode == codeNoName {
		answer[3] &^= maskCode
	}
	return answer
}

// serveStreams answers by TCP, one query of a connection after the other.
func (s *Server) serveStreams(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil && s.ended(err) {
			return
		}
		if err != nil {
			select { // out of descriptors
			case <-time.After(10 * time.Millisecond):
			case <-s.ctx.Done():
			}
			continue
		}
		select {
		case s.serving <- struct{}{}:
			s.running.Go(func() {
				defer func() { <-s.serving }()
				s.serveStream(conn)
			})
		default:
			s.refused.Add(1)
			_ = conn.Close()
		}
	}
}

func (s *Server) serveStream(conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	defer stop()
	from := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	var in, out, framed []byte
	for idle := streamIdle; ; {
		_ = conn.SetDeadline(time.Now().Add(idle))
		var err error
		if in, err = readFramed(conn, in); err != nil || s.foreign(from) {
			return
		}
		var q query
		answer, known := s.known(&q, in, out[:0], maxMessage)
		if !known {
			_ = conn.SetDeadline(time.Time{})
			answer = s.ask(&q)
			_ = conn.SetDeadline(time.Now().Add(streamIdle))
		}
		if answer == nil {
			return
		}
		framed = append(binary.BigEndian.AppendUint16(framed[:0], uint16(len(answer))), answer...)
		if _, err = conn.Write(framed); err != nil {
			return
		}
		if s.ceded.Load() {
			idle = streamLast
		}
	}
}

// locals are the addresses of this machine.
type locals struct {
	mu     sync.Mutex // guards what follows
	all    map[netip.Addr]bool
	looked time.Time
}

// has reports whether an address is one of them. It looks again, but not all the time, for one that is new.
func (l *locals) has(a netip.Addr, now time.Time) bool {
	if a.IsLoopback() {
		return true
	}
	a = a.WithZone("")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[a] {
		return true
	}
	if !l.looked.IsZero() && now.Sub(l.looked) < time.Second {
		return false
	}
	l.looked, l.all = now, make(map[netip.Addr]bool)
	found, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, one := range found {
		if p, err := netip.ParsePrefix(one.String()); err == nil {
			l.all[p.Addr().Unmap()] = true
		}
	}
	return l.all[a]
}
