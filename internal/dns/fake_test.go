package dns_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A nameServer is a name server on loopback, by UDP and TCP on one port. It speaks by x/net's code, and not by that which is tested.
type nameServer struct {
	at     netip.AddrPort
	packet *net.UDPConn

	mu    sync.Mutex // guards what follows
	asked []string   // "udp A name.": in the order of arrival
	// answer changes the answer that the server would give: that there is no such name. nil for silence.
	answer func(network string, q dnsmessage.Message, reply *dnsmessage.Message) []byte
}

// pack is the ordinary end of an answer function.
func pack(reply *dnsmessage.Message) []byte {
	b, err := reply.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func newNameServer(t testing.TB, answer func(network string, q dnsmessage.Message, reply *dnsmessage.Message) []byte) *nameServer {
	t.Helper()
	s := &nameServer{answer: answer}
	l := s.listen(t)
	t.Cleanup(func() { _ = l.Close(); _ = s.packet.Close() })
	go s.serveUDP()
	go s.serveTCP(l)
	return s
}

// listen finds a port that is free for both.
func (s *nameServer) listen(t testing.TB) net.Listener {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.at = l.Addr().(*net.TCPAddr).AddrPort()
		if s.packet, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(s.at)); err == nil {
			return l
		}
		_ = l.Close()
	}
}

func (s *nameServer) serveUDP() {
	b := make([]byte, 1<<16)
	for {
		n, from, err := s.packet.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if reply := s.reply("udp", b[:n]); reply != nil {
			_, _ = s.packet.WriteToUDPAddrPort(reply, from)
		}
	}
}

func (s *nameServer) serveTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for {
				var size [2]byte
				if _, err := io.ReadFull(conn, size[:]); err != nil {
					return
				}
				b := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(conn, b); err != nil {
					return
				}
				reply := s.reply("tcp", b)
				if reply == nil {
					return
				}
				_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
			}
		}()
	}
}

func (s *nameServer) reply(network string, b []byte) []byte {
	var q dnsmessage.Message
	if q.Unpack(b) != nil || len(q.Questions) != 1 {
		return nil
	}
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true, RecursionDesired: q.RecursionDesired,
		RCode: dnsmessage.RCodeNameError}, Questions: q.Questions}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, network+" "+strings.TrimPrefix(q.Questions[0].Type.String(), "Type")+" "+q.Questions[0].Name.String())
	if len(q.Answers)+len(q.Authorities) > 0 || len(q.Additionals) > 1 { // a query has an OPT at the most, and behind these
		s.asked = append(s.asked, "which is malformed")
		reply.RCode = dnsmessage.RCodeFormatError
		return pack(&reply)
	}
	return s.answer(network, q, &reply)
}

// questions gives what was asked, and forgets it.
func (s *nameServer) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.asked
	s.asked = nil
	return all
}

// dial connects to it, whichever server is asked for.
func (s *nameServer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, s.at.String())
}

func aRecord(name string, ttl uint32, address string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl},
		Body: &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()}}
}

func aaaaRecord(name string, ttl uint32, address string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl},
		Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(address).As16()}}
}

func cnameRecord(name string, ttl uint32, to string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl},
		Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)}}
}

func soaRecord(name string, ttl, least uint32) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl},
		Body: &dnsmessage.SOAResource{NS: dnsmessage.MustNewName("ns." + name), MBox: dnsmessage.MustNewName("mail." + name), MinTTL: least}}
}
