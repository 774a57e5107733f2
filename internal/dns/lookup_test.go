package dns_test

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/heddlemesh/mesh/internal/dns"
)

// TestLookupFor: the addresses are net's, and they are good for the shortest TTL of what was answered, by UDP and, where that is
// too little, by TCP.
func TestLookupFor(t *testing.T) {
	t.Parallel()
	s := newNameServer(t, func(network string, q dnsmessage.Message, reply *dnsmessage.Message) []byte {
		name, a := q.Questions[0].Name.String(), q.Questions[0].Type == dnsmessage.TypeA
		answers := func(all ...dnsmessage.Resource) {
			reply.RCode, reply.Answers = dnsmessage.RCodeSuccess, all
		}
		switch {
		case name == "both.example." && a:
			answers(aRecord(name, 40, "192.0.2.1"), aRecord(name, 40, "192.0.2.2"))
		case name == "both.example.":
			answers(aaaaRecord(name, 30, "2001:db8::1"))
		case name == "alias.example." && a:
			answers(cnameRecord(name, 7, "real.example."), aRecord("real.example.", 3600, "192.0.2.3"))
		case name == "alias.example.":
			answers(cnameRecord(name, 7, "real.example."))
			reply.Authorities = []dnsmessage.Resource{soaRecord("example.", 1, 1)} // of what is not there, which does not count
		case name == "none.example." && a:
			answers(aRecord(name, 0, "192.0.2.4"))
		case name == "large.example." && a && network == "udp":
			answers()
			reply.Truncated = true
		case name == "large.example." && a:
			answers()
			for i := range 200 {
				reply.Answers = append(reply.Answers, aRecord(name, 90, "192.0.2."+string(rune('0'+i%10))))
			}
		}
		return pack(reply)
	})
	l := dns.NewLookup(s.dial)
	for _, c := range []struct {
		name  string
		count int
		good  time.Duration
	}{
		{"both.example.", 3, 30 * time.Second},
		{"alias.example.", 1, 7 * time.Second},
		{"none.example.", 1, 0},
		{"large.example.", 200, 90 * time.Second},
	} {
		addrs, good, err := l.LookupFor(t.Context(), "ip", c.name)
		if len(addrs) != c.count || good != c.good || err != nil {
			t.Errorf("%s: %d addresses, good for %v, %v; want %d, %v", c.name, len(addrs), good, err, c.count, c.good)
		}
	}
	if _, good, err := l.LookupFor(t.Context(), "ip", "missing.example."); err == nil || good != 0 {
		t.Errorf("a name that is not there: %v, %v", good, err)
	}
	if addrs, err := l.LookupNetIP(t.Context(), "ip4", "both.example."); err != nil || len(addrs) != 2 {
		t.Errorf("IPv4 only: %v, %v", addrs, err)
	}
	if !slices.Contains(s.questions(), "tcp A large.example.") {
		t.Error("TCP was not asked")
	}
}
