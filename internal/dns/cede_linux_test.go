package dns_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/heddlemesh/mesh/internal/dns"
)

// successor starts a server with the sockets of another one, as another process would have them.
func successor(t *testing.T, of *dns.Server) *dns.Server {
	t.Helper()
	again := func(file *os.File, err error) *os.File {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		return file
	}
	return serve(t, func(c *dns.Config) {
		c.Listen = func(string, string) (net.Listener, error) {
			return net.FileListener(again(of.Listeners()[0].(*net.TCPListener).File()))
		}
		c.ListenPacket = func(string, string) (net.PacketConn, error) {
			return net.FilePacketConn(again(of.PacketConns()[0].File()))
		}
	})
}

// TestServerCede: a server that cedes answers what it has read and who is connected; what comes is the successor's, also when that comes later.
func TestServerCede(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}), make(chan struct{})
	up := newNameServer(t, func(_ string, _ dnsmessage.Message, reply *dnsmessage.Message) []byte {
		close(asked)
		<-release
		reply.RCode, reply.Answers = dnsmessage.RCodeSuccess, []dnsmessage.Resource{aRecord("far.example.", 60, "192.0.2.1")}
		return pack(reply)
	})
	old := serve(t, nil, up.at)
	query := func(name string) []byte {
		return pack(&dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}})
	}
	dial := func(network string) net.Conn {
		conn, err := net.Dial(network, old.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	send := func(conn net.Conn, b []byte) {
		if conn.RemoteAddr().Network() == "tcp" {
			b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
		}
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(conn net.Conn) string {
		b := make([]byte, 512)
		n, err := 0, error(nil)
		if conn.RemoteAddr().Network() == "tcp" {
			if _, err = io.ReadFull(conn, b[:2]); err == nil {
				n, err = io.ReadFull(conn, b[:binary.BigEndian.Uint16(b)])
			}
		} else {
			n, err = conn.Read(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(b[:n]); err != nil {
			t.Fatal(err)
		}
		return show(&m)
	}
	const near, far = "Success own 240.240.1.1", "Success 192.0.2.1"
	waits, open := dial("udp"), dial("tcp")
	send(waits, query("far.example."))
	<-asked
	send(open, query("reviews."))
	if got := answer(open); got != near {
		t.Fatal(got)
	}
	old.Cede()
	packet, stream := dial("udp"), dial("tcp")
	for _, conn := range []net.Conn{packet, stream, open} {
		send(conn, query("reviews."))
	}
	if got := answer(open); got != near {
		t.Error(got)
	}
	if n := old.Counts(); n.Mesh != 2 {
		t.Errorf("it has gone on: %+v", n)
	}
	next := successor(t, old)
	for _, conn := range []net.Conn{packet, stream} {
		if got := answer(conn); got != near {
			t.Error(got)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	old.Wait(over) // and does not
	close(release)
	if got := answer(waits); got != far {
		t.Error(got)
	}
	_ = open.Close()
	old.Wait(t.Context())
	old.Close()
	send(packet, query("reviews."))
	if got := answer(packet); got != near {
		t.Error(got)
	}
	if n := next.Counts(); n.Mesh != 3 || next.Addrs()[0] != old.Addrs()[0] {
		t.Errorf("%+v at %v", n, next.Addrs())
	}
}

// TestServerListens: sockets that are none of UDP are refused, and closed.
func TestServerListens(t *testing.T) {
	t.Parallel()
	other := &closing{closed: make(chan struct{})}
	s, err := dns.Listen(dns.Config{Addresses: []string{"127.0.0.1:0"}, ListenPacket: func(string, string) (net.PacketConn, error) { return other, nil }})
	if s != nil || err == nil {
		t.Errorf("%v, %v", s, err)
	}
	<-other.closed
}

type closing struct {
	net.PacketConn
	closed chan struct{}
}

func (c *closing) Close() error {
	close(c.closed)
	return nil
}
