package dns_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/heddlemesh/mesh/internal/dns"
)

// A clock is turned by hand.
type clock struct{ passed atomic.Int64 }

func (c *clock) now() time.Time        { return time.Unix(1e9, 0).Add(time.Duration(c.passed.Load())) }
func (c *clock) turn(by time.Duration) { c.passed.Add(int64(by)) }

var bookinfo = []dns.Host{
	{Name: "reviews.bookinfo.svc.cluster.local", Aliases: []string{"reviews", "reviews.bookinfo", "reviews.bookinfo.svc"},
		Addrs: []netip.Addr{netip.MustParseAddr("240.240.1.1"), netip.MustParseAddr("2001:2::1")}, Automatic: true},
	{Name: "four.example.com", Addrs: []netip.Addr{netip.MustParseAddr("10.1.1.1")}},
	{Name: "*.wild.example.com", Addrs: []netip.Addr{netip.MustParseAddr("10.1.1.2")}},
	{Name: "own.wild.example.com", Addrs: []netip.Addr{netip.MustParseAddr("10.1.1.3")}},
}

// serve starts a server before some name servers.
func serve(t testing.TB, change func(*dns.Config), upstreams ...netip.AddrPort) *dns.Server {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("search bookinfo.svc.cluster.local example.org\noptions timeout:30 attempts:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	zone := dns.NewZone(bookinfo)
	c := dns.Config{Addresses: []string{"127.0.0.1:0"}, Zone: func() *dns.Zone { return zone }, ResolvConf: conf, Upstreams: upstreams}
	if change != nil {
		change(&c)
	}
	s, err := dns.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Serve()
	return s
}

// A question is what a test asks, by UDP where it does not say.
type question struct {
	name    string
	kind    dnsmessage.Type
	edns    int // 0 for none
	network string
}

// ask sends a question and gives the answer.
func ask(t testing.TB, s *dns.Server, q question) *dnsmessage.Message {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(q.name), Type: q.kind, Class: dnsmessage.ClassINET}}}
	if q.edns > 0 {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(q.edns, dnsmessage.RCodeSuccess, false); err != nil {
			t.Fatal(err)
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	reply := exchange(t, s, q.network, b)
	if q.network != "tcp" && len(reply) > max(q.edns, 512) {
		t.Errorf("%s: %d bytes, with EDNS %d", q.name, len(reply), q.edns)
	}
	var got dnsmessage.Message
	if err := got.Unpack(reply); err != nil {
		t.Fatalf("%s: %v", q.name, err)
	}
	if got.ID != m.ID || !got.Response || !got.RecursionAvailable || len(got.Questions) != 1 || got.Questions[0] != m.Questions[0] {
		t.Errorf("%s: %+v is no answer to it", q.name, got)
	}
	if hasEDNS := len(got.Additionals) > 0 && got.Additionals[len(got.Additionals)-1].Header.Type == dnsmessage.TypeOPT; hasEDNS != (q.edns > 0) {
		t.Errorf("%s: EDNS in the answer: %t", q.name, hasEDNS)
	}
	return &got
}

func exchange(t testing.TB, s *dns.Server, network string, b []byte) []byte {
	t.Helper()
	if network == "" {
		network = "udp"
	}
	conn, err := net.Dial(network, s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if network == "tcp" {
		if _, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
			t.Fatal(err)
		}
		var size [2]byte
		if _, err = io.ReadFull(conn, size[:]); err != nil {
			t.Fatal(err)
		}
		reply := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err = io.ReadFull(conn, reply); err != nil {
			t.Fatal(err)
		}
		return reply
	}
	if _, err = conn.Write(b); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 1<<16)
	n, err := conn.Read(reply)
	if err != nil {
		t.Fatal(err)
	}
	return reply[:n]
}

// show gives code and answers in one line.
func show(m *dnsmessage.Message) string {
	words := []string{strings.TrimPrefix(m.RCode.String(), "RCode")}
	if m.Authoritative {
		words = append(words, "own")
	}
	if m.Truncated {
		words = append(words, "truncated")
	}
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			words = append(words, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.CNAMEResource:
			words = append(words, "CNAME "+b.CNAME.String())
		default:
			words = append(words, r.Header.Type.String())
		}
	}
	return strings.Join(words, " ")
}

// TestServerNames: the names of the mesh in every form, both families, and what is not there is not denied.
func TestServerNames(t *testing.T) {
	t.Parallel()
	up := newNameServer(t, func(_ string, _ dnsmessage.Message, reply *dnsmessage.Message) []byte { return pack(reply) })
	s := serve(t, nil, up.at)
	const a, aaaa, mx, https = dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeMX, dnsmessage.Type(65)
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		want string
	}{
		{"reviews.", a, "Success own 240.240.1.1"},
		{"reviews.", aaaa, "Success own 2001:2::1"},
		{"ReViEwS.", a, "Success own 240.240.1.1"},
		{"reviews.bookinfo.", a, "Success own 240.240.1.1"},
		{"reviews.bookinfo.svc.", a, "Success own 240.240.1.1"},
		{"reviews.bookinfo.svc.cluster.local.", a, "Success own 240.240.1.1"},
		{"four.example.com.", a, "Success own 10.1.1.1"},
		{"four.example.com.", aaaa, "Success own"},
		{"four.example.com.", https, "Success own"},
		{"four.example.com.", mx, "Success"}, // name servers do not know it
		{"four.example.com.bookinfo.svc.cluster.local.", a, "Success own CNAME four.example.com. 10.1.1.1"},
		{"four.example.com.bookinfo.svc.cluster.local.", aaaa, "Success own"},
		{"four.example.com.example.org.", a, "NameError"}, // of the search list the first counts
		{"any.wild.example.com.", a, "Success own 10.1.1.2"},
		{"deep.any.wild.example.com.", a, "Success own 10.1.1.2"},
		{"own.wild.example.com.", a, "Success own 10.1.1.3"},
		{"wild.example.com.", a, "NameError"},
		{"nobody.example.com.", a, "NameError"},
		{"ratings.", a, "NameError"},
		{".", a, "NameError"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			for _, edns := range []int{0, 1232} {
				if got := show(ask(t, s, question{c.name, c.kind, edns, network})); got != c.want {
					t.Errorf("%s %s by %s: %s, want %s", c.name, c.kind, network, got, c.want)
				}
			}
		}
	}
	if asked := up.questions(); slices.ContainsFunc(asked, func(q string) bool {
		return strings.Contains(q, "reviews") || strings.Contains(q, " A four.example.com. ")
	}) {
		t.Errorf("name servers were asked %q", asked)
	}
}

// TestServerKeeps: name servers are asked once for as long as their answer is good, to the second, and its TTL counts down.
func TestServerKeeps(t *testing.T) {
	t.Parallel()
	up := newNameServer(t, func(_ string, q dnsmessage.Message, reply *dnsmessage.Message) []byte {
		name := q.Questions[0].Name.String()
		switch strings.ToLower(name) {
		case "good.example.":
			reply.RCode = dnsmessage.RCodeSuccess
			reply.Answers = []dnsmessage.Resource{cnameRecord(name, 60, "real.example."), aRecord("real.example.", 30, "192.0.2.1")}
		case "zero.example.":
			reply.RCode = dnsmessage.RCodeSuccess
			reply.Answers = []dnsmessage.Resource{aRecord(name, 0, "192.0.2.2")}
		case "denied.example.":
			reply.Authorities = []dnsmessage.Resource{soaRecord("example.", 600, 20)}
		case "empty.example.":
			reply.RCode = dnsmessage.RCodeSuccess
			reply.Authorities = []dnsmessage.Resource{soaRecord("example.", 10, 600)}
		case "broken.example.":
			reply.RCode = dnsmessage.RCodeServerFailure
		}
		return pack(reply)
	})
	var c clock
	s := serve(t, func(o *dns.Config) { o.Now = c.now }, up.at)
	begin := c.now()
	for _, step := range []struct {
		at    time.Duration
		name  string
		want  string
		asked bool
		ttl   uint32 // of the last record
	}{
		{0, "good.example.", "Success CNAME real.example. 192.0.2.1", true, 30},
		{0, "GOOD.example.", "Success CNAME real.example. 192.0.2.1", false, 30},
		{0, "zero.example.", "Success 192.0.2.2", true, 0},
		{0, "zero.example.", "Success 192.0.2.2", true, 0},
		{0, "denied.example.", "NameError", true, 600},
		{0, "empty.example.", "Success", true, 10},
		{0, "bare.example.", "NameError", true, 0}, // without a SOA it is not kept
		{0, "bare.example.", "NameError", true, 0},
		{0, "broken.example.", "ServerFailure", true, 0},
		{0, "broken.example.", "ServerFailure", true, 0},
		{9*time.Second + 999*time.Millisecond, "empty.example.", "Success", false, 1},
		{10 * time.Second, "empty.example.", "Success", true, 10},
		{12*time.Second + 700*time.Millisecond, "good.example.", "Success CNAME real.example. 192.0.2.1", false, 18},
		{19 * time.Second, "denied.example.", "NameError", false, 581},
		{20 * time.Second, "denied.example.", "NameError", true, 600},
		{29*time.Second + 999*time.Millisecond, "good.example.", "Success CNAME real.example. 192.0.2.1", false, 1},
		{30 * time.Second, "good.example.", "Success CNAME real.example. 192.0.2.1", true, 30},
	} {
		c.turn(step.at - c.now().Sub(begin))
		up.questions()
		m := ask(t, s, question{name: step.name, kind: dnsmessage.TypeA, edns: 1232})
		asked := len(up.questions()) > 0
		var ttl uint32
		for _, r := range append(m.Answers, m.Authorities...) {
			ttl = r.Header.TTL
		}
		if got := show(m); got != step.want || asked != step.asked || ttl != step.ttl {
			t.Errorf("after %v, %s: %s, asked %t, TTL %d; want %s, %t, %d", step.at, step.name, got, asked, ttl, step.want, step.asked, step.ttl)
		}
	}
}

// TestServerLarge: what is too long for UDP is got by TCP, and told the client in parts that fit what it can take.
func TestServerLarge(t *testing.T) {
	t.Parallel()
	up := newNameServer(t, func(network string, q dnsmessage.Message, reply *dnsmessage.Message) []byte {
		reply.RCode = dnsmessage.RCodeSuccess
		if reply.Truncated = network == "udp"; !reply.Truncated {
			for range 60 {
				reply.Answers = append(reply.Answers, aRecord(q.Questions[0].Name.String(), 60, "192.0.2.1"))
			}
		}
		return pack(reply)
	})
	s := serve(t, func(c *dns.Config) {
		host := dns.Host{Name: "many.mesh"}
		for i := range 100 {
			host.Addrs = append(host.Addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
		}
		zone := dns.NewZone([]dns.Host{host})
		c.Zone = func() *dns.Zone { return zone }
	}, up.at)
	for _, c := range []struct {
		q         question
		answers   int
		truncated bool
	}{
		{question{"large.example.", dnsmessage.TypeA, 0, "udp"}, 0, true},
		{question{"large.example.", dnsmessage.TypeA, 4096, "udp"}, 60, false},
		{question{"large.example.", dnsmessage.TypeA, 0, "tcp"}, 60, false},
		{question{"many.mesh.", dnsmessage.TypeA, 0, "udp"}, 29, true}, // (512 − 12 − 15 − 11) / 16
		{question{"many.mesh.", dnsmessage.TypeA, 1232, "udp"}, 74, true},
		{question{"many.mesh.", dnsmessage.TypeA, 4096, "udp"}, 100, false},
		{question{"many.mesh.", dnsmessage.TypeA, 65535, "udp"}, 100, false},
		{question{"many.mesh.", dnsmessage.TypeA, 0, "tcp"}, 100, false},
	} {
		m := ask(t, s, c.q)
		if len(m.Answers) != c.answers || m.Truncated != c.truncated {
			t.Errorf("%+v: %d answers, truncated %t; want %d, %t", c.q, len(m.Answers), m.Truncated, c.answers, c.truncated)
		}
	}
	if asked := up.questions(); !slices.Equal(asked, []string{"udp A large.example.", "tcp A large.example."}) {
		t.Errorf("asked %q", asked)
	}
}

// TestServerUpstreams: a server that is silent, broken, gone or old is no reason to know nothing.
func TestServerUpstreams(t *testing.T) {
	t.Parallel()
	good := func(_ string, q dnsmessage.Message, reply *dnsmessage.Message) []byte {
		reply.RCode, reply.Answers = dnsmessage.RCodeSuccess, []dnsmessage.Resource{aRecord(q.Questions[0].Name.String(), 60, "192.0.2.1")}
		return pack(reply)
	}
	broken := func(_ string, _ dnsmessage.Message, reply *dnsmessage.Message) []byte {
		reply.RCode = dnsmessage.RCodeServerFailure
		return pack(reply)
	}
	old := func(network string, q dnsmessage.Message, reply *dnsmessage.Message) []byte {
		if len(q.Additionals) > 0 { // EDNS, of which it knows nothing
			reply.RCode, reply.Questions = dnsmessage.RCodeFormatError, nil
			return pack(reply)
		}
		return good(network, q, reply)
	}
	// Whoever guesses must hit the number, the question and the port.
	lying := func(network string, q dnsmessage.Message, reply *dnsmessage.Message) []byte {
		if network == "tcp" {
			return nil
		}
		reply.Truncated = true
		return pack(reply)
	}
	gone, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	nobody := gone.LocalAddr().(*net.UDPAddr).AddrPort()
	t.Cleanup(func() { _ = gone.Close() })
	for name, c := range map[string]struct {
		servers []netip.AddrPort
		want    string
	}{
		"good":                {[]netip.AddrPort{newNameServer(t, good).at}, "Success 192.0.2.1"},
		"the first broken":    {[]netip.AddrPort{newNameServer(t, broken).at, newNameServer(t, good).at}, "Success 192.0.2.1"},
		"all broken":          {[]netip.AddrPort{newNameServer(t, broken).at}, "ServerFailure"},
		"knows no EDNS":       {[]netip.AddrPort{newNameServer(t, old).at}, "Success 192.0.2.1"},
		"TCP ends in nothing": {[]netip.AddrPort{newNameServer(t, lying).at, newNameServer(t, good).at}, "Success 192.0.2.1"},
		"nobody":              {nil, "ServerFailure"},
	} {
		s := serve(t, func(c *dns.Config) { c.ResolvConf = "/nowhere" }, c.servers...)
		if got := show(ask(t, s, question{name: "x.example.", kind: dnsmessage.TypeA})); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	// One that says nothing: the next is asked when its time is up, which resolv.conf may set.
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("options timeout:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(c *dns.Config) { c.ResolvConf = conf }, nobody, newNameServer(t, good).at)
	if got := show(ask(t, s, question{name: "x.example.", kind: dnsmessage.TypeA})); got != "Success 192.0.2.1" {
		t.Errorf("the first silent: %s", got)
	}
}

// TestServerGuesses: of all that comes to the port of a query only its answer counts, and ports and numbers are not told by those before.
func TestServerGuesses(t *testing.T) {
	t.Parallel()
	type asked struct {
		port uint16
		id   uint16
	}
	seen := make(chan asked, 64)
	up, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := up.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(b[:n]) != nil {
				continue
			}
			seen <- asked{from.Port(), q.ID}
			reply := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true}, Questions: q.Questions}
			name := q.Questions[0].Name.String()
			forged := func(change func(m *dnsmessage.Message)) {
				m := reply
				m.Questions = slices.Clone(m.Questions)
				m.Answers = []dnsmessage.Resource{aRecord(name, 60, "203.0.113.66")}
				change(&m)
				_, _ = up.WriteToUDPAddrPort(pack(&m), from)
			}
			forged(func(m *dnsmessage.Message) { m.ID++ })
			forged(func(m *dnsmessage.Message) { m.Response = false })
			forged(func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("y.example.") })
			forged(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA })
			forged(func(m *dnsmessage.Message) { m.Questions = nil })
			forged(func(m *dnsmessage.Message) { // among the answers it would be the client's OPT
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(".")}, Body: &dnsmessage.OPTResource{}})
			})
			_, _ = up.WriteToUDPAddrPort(b[:5], from)
			bad := append(pack(&reply), 1, 2, 3)
			binary.BigEndian.PutUint16(bad[6:], 7) // answers that are not there
			_, _ = up.WriteToUDPAddrPort(bad, from)
			if other, err := net.Dial("udp", from.String()); err == nil { // from another port
				m := reply
				m.Answers = []dnsmessage.Resource{aRecord(name, 60, "203.0.113.66")}
				_, _ = other.Write(pack(&m))
				_ = other.Close()
			}
			reply.Answers = []dnsmessage.Resource{aRecord(name, 0, "192.0.2.1")}
			_, _ = up.WriteToUDPAddrPort(pack(&reply), from)
		}
	}()
	s := serve(t, nil, up.LocalAddr().(*net.UDPAddr).AddrPort())
	ports, ids := map[uint16]bool{}, map[uint16]bool{}
	for range 16 {
		if got := show(ask(t, s, question{name: "x.example.", kind: dnsmessage.TypeA})); got != "Success 192.0.2.1" {
			t.Fatal(got)
		}
		a := <-seen
		ports[a.port], ids[a.id] = true, true
	}
	if len(ports) < 8 || len(ids) < 8 {
		t.Errorf("16 queries came from %d ports with %d numbers", len(ports), len(ids))
	}
}

// TestServerOnce: one question is under way once, whoever waits for it; and more than so many do not wait.
func TestServerOnce(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var held sync.Once
	up := newNameServer(t, func(_ string, q dnsmessage.Message, reply *dnsmessage.Message) []byte {
		held.Do(func() { <-release })
		reply.RCode, reply.Answers = dnsmessage.RCodeSuccess, []dnsmessage.Resource{aRecord(q.Questions[0].Name.String(), 60, "192.0.2.1")}
		return pack(reply)
	})
	s := serve(t, nil, up.at)
	var conn net.Conn // the newest of several, each of which has room for the answers of 64 queries at once
	var all []net.Conn
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("x.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	b := make([]byte, 4096)
	read := func() (got dnsmessage.Message) {
		n, err := conn.Read(b)
		if err != nil || got.Unpack(b[:n]) != nil {
			t.Fatalf("%x, %v", b[:n], err)
		}
		return got
	}
	own := pack(&dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("reviews."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}})
	const most, more = 512, 8
	for i := range most + more {
		m.ID = uint16(i)
		if i%64 == 0 {
			var err error
			if conn, err = net.Dial("udp", s.Addrs()[0].String()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			all = append(all, conn)
		}
		if _, err := conn.Write(pack(&m)); err != nil {
			t.Fatal(err)
		}
		if i >= most {
			if got := read(); show(&got) != "ServerFailure" {
				t.Errorf("query %d: %s", i, show(&got))
			}
			continue
		}
		if _, err := conn.Write(own); err != nil { // whose answer says that the one before has been read
			t.Fatal(err)
		}
		if got := read(); show(&got) != "Success own 240.240.1.1" {
			t.Fatalf("query %d: %s", i, show(&got))
		}
	}
	close(release)
	ids := make(map[uint16]bool)
	for i := range most {
		conn = all[i/64]
		got := read()
		if ids[got.ID] = true; show(&got) != "Success 192.0.2.1" {
			t.Fatal(show(&got))
		}
	}
	if asked := up.questions(); len(ids) != most || len(asked) != 1 {
		t.Errorf("%d answered, asked %q", len(ids), asked)
	}
}

// TestServerRefuses: what is no query gets no answer, or says why.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	query := pack(&dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("reviews."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}})
	changed := func(change func(b []byte) []byte) []byte { return change(slices.Clone(query)) }
	opt := func(version byte) []byte { return []byte{0, 0, 41, 4, 0xd0, 0, version, 0, 0, 0, 0} }
	for name, c := range map[string]struct {
		b    []byte
		code byte
	}{
		"another opcode": {changed(func(b []byte) []byte { b[2] |= 4 << 3; return b }), 4},
		"no question":    {changed(func(b []byte) []byte { b[5] = 0; return b[:12] }), 1},
		"two questions":  {changed(func(b []byte) []byte { b[5] = 2; return b }), 1},
		"cut":            {query[:15], 1},
		"a pointer":      {changed(func(b []byte) []byte { b[12] = 0xc0; return b }), 1},
		"a long label":   {changed(func(b []byte) []byte { b[12] = 64; return b }), 1},
		"an answer":      {changed(func(b []byte) []byte { b[7] = 1; return b }), 1},
		"two OPT":        {changed(func(b []byte) []byte { b[11] = 2; return append(append(b, opt(0)...), opt(0)...) }), 1},
		"EDNS 1":         {changed(func(b []byte) []byte { b[11] = 1; return append(b, opt(1)...) }), 0}, // BADVERS is in OPT
	} {
		if got := exchange(t, s, "udp", c.b); got[3]&0xf != c.code || got[1] != 7 {
			t.Errorf("%s: %x", name, got)
		}
	}
	// What is no query at all: the answer that comes is that of the query after it.
	conn, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, b := range [][]byte{query[:11], {}, changed(func(b []byte) []byte { b[2] |= 0x80; return b }), changed(func(b []byte) []byte { b[1] = 8; return b })} {
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 512)
	if n, err := conn.Read(b); err != nil || b[1] != 8 {
		t.Errorf("%x, %v", b[:n], err)
	}
	for _, address := range []string{"0.0.0.0:0", "192.0.2.1:53", "[::]:0", "localhost:53", ""} {
		if l, err := dns.Listen(dns.Config{Addresses: []string{address}, Zone: func() *dns.Zone { return nil }}); err == nil {
			l.Close()
			t.Errorf("%q is listened on", address)
		}
	}
}

// TestServerItself: a server that is named as its own name server asks nobody.
func TestServerItself(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	own := make([]netip.AddrPort, 1)
	s := serve(t, func(c *dns.Config) { c.Failed = func(_ string, err error) { failed <- err } }, own...)
	own[0] = s.Addrs()[0]
	if got := show(ask(t, s, question{name: "x.example.", kind: dnsmessage.TypeA})); got != "ServerFailure" {
		t.Error(got)
	}
	if err := <-failed; err == nil || err.Error() != "no name server is known" {
		t.Errorf("%v", err)
	}
}
