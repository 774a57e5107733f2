package dns_test

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/heddlemesh/mesh/internal/dns"
)

// BenchmarkAnswer is what a program waits for an answer: of the mesh, from what is kept, and, for comparison, for its own question
// from a server that does nothing but send back what it hears.
func BenchmarkAnswer(b *testing.B) {
	up := newNameServer(b, func(_ string, q dnsmessage.Message, reply *dnsmessage.Message) []byte {
		reply.RCode, reply.Answers = dnsmessage.RCodeSuccess, []dnsmessage.Resource{aRecord(q.Questions[0].Name.String(), 3600, "192.0.2.1")}
		return pack(reply)
	})
	s := serve(b, nil, up.at)
	echo, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = echo.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := echo.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = echo.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	at := func(addr net.Addr) netip.AddrPort { return addr.(*net.UDPAddr).AddrPort() }
	for _, c := range []struct {
		name, host string
		to         netip.AddrPort
	}{{"mesh", "reviews.", s.Addrs()[0]}, {"kept", "kept.example.", s.Addrs()[0]}, {"echo", "reviews.", at(echo.LocalAddr())}} {
		b.Run(c.name, func(b *testing.B) {
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(c.to))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			query := pack(&dnsmessage.Message{Header: dnsmessage.Header{RecursionDesired: true},
				Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(c.host), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}})
			answer := make([]byte, 512)
			ask := func() {
				if _, err := conn.Write(query); err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Read(answer); err != nil {
					b.Fatal(err)
				}
			}
			ask() // so that it is kept
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "µs/answer")
		})
	}
}

// BenchmarkZone is what 1,000 hosts cost: all names, and addresses for each.
func BenchmarkZone(b *testing.B) {
	names := hostNames(1000)
	b.ReportAllocs()
	for b.Loop() {
		given := new(dns.Automatic).Assign(names)
		hosts := make([]dns.Host, 0, len(names))
		for _, name := range names {
			hosts = append(hosts, dns.Host{Name: name, Addrs: []netip.Addr{given[name].V4, given[name].V6}, Automatic: true})
		}
		dns.NewZone(hosts)
	}
}
