package dns

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func seedMessages(f *testing.F) {
	name := dnsmessage.MustNewName("reviews.shop.svc.cluster.local.")
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	add := func() {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add()
	var opt dnsmessage.ResourceHeader
	_ = opt.SetEDNS0(1232, dnsmessage.RCodeSuccess, true)
	m.Additionals = []dnsmessage.Resource{{Header: opt, Body: &dnsmessage.OPTResource{}}}
	add()
	m.Response = true
	h := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 60}
	m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.CNAMEResource{CNAME: name}}, {Header: h, Body: &dnsmessage.AResource{}}}
	m.Authorities = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.SOAResource{NS: name, MBox: name, MinTTL: 5}}}
	add()
	m.Answers = append(m.Answers, m.Additionals...)
	add()
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c, 0, 1, 0, 1})
	f.Add([]byte{})
}

// FuzzQuery: whatever a client sends, what it is told is a message that x/net's code reads, with the number and the question that it
// sent, and no longer than it can take; and what x/net's code takes for a question is one here, with the same name.
func FuzzQuery(f *testing.F) {
	seedMessages(f)
	zone := NewZone([]Host{{Name: "reviews.shop.svc.cluster.local", Aliases: []string{"reviews"},
		Addrs: []netip.Addr{netip.MustParseAddr("240.240.1.1"), netip.MustParseAddr("2001:2::1")}}, {Name: "*.wild", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		var q query
		code, drop := q.read(b)
		if drop {
			return
		}
		var theirs dnsmessage.Parser
		_, err := theirs.Start(b)
		one, err2 := theirs.Question()
		if err == nil && err2 == nil && code == 0 {
			plain := !strings.ContainsAny(one.Name.String(), "\x00") && !bytes.ContainsRune(q.name, 0)
			if got := string(q.name) + "."; plain && !strings.EqualFold(got, one.Name.String()) {
				t.Errorf("the name is %q, and to x/net %q", got, one.Name)
			}
		}
		for _, answer := range [][]byte{q.fail(nil, max(code, codeServerFailure)), q.cut(nil, code), zoneAnswer(&q, zone, code)} {
			if answer == nil {
				continue
			}
			var m dnsmessage.Message
			if err := m.Unpack(answer); err != nil && bytes.IndexByte(q.name, 0) >= 0 {
				continue // x/net takes no dots within a label
			} else if err != nil {
				t.Fatalf("%x: %v", answer, err)
			}
			if m.ID != q.id || !m.Response || len(answer) > q.limit || len(q.question) > 0 && !bytes.Equal(answer[headerLen:headerLen+len(q.question)], q.question) {
				t.Errorf("%x is no answer to %x", answer, b)
			}
		}
		if code == 0 {
			if kept := q.own(); string(kept.name) != string(q.name) || !bytes.Equal(kept.key(nil), q.key(nil)) {
				t.Error("what is kept is another query")
			}
			request := q.request(make([]byte, 2), 7, true)[2:] // behind room for its length
			var again query
			if code, drop := again.read(request); code != 0 || drop || !bytes.Equal(again.question, q.question) {
				t.Errorf("what is sent on is no query: %x", request)
			}
		}
	})
}

func zoneAnswer(q *query, z *Zone, code int) []byte {
	if code != 0 {
		return nil
	}
	e, target := z.find(q.name, "shop.svc.cluster.local")
	if e == nil {
		return nil
	}
	answer, _ := q.answer(e, target, nil)
	return answer
}

// FuzzUpstream: whatever a name server says, what is kept and given of it is a well-formed message with the client's question, and is
// good for a day at the most; its age never makes a TTL larger.
func FuzzUpstream(f *testing.F) {
	seedMessages(f)
	ask := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("reviews.shop.svc.cluster.local."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	sent, err := ask.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		life := lifetimeOf(b)
		if life.Duration < 0 || life.Duration > longestLife {
			t.Fatalf("good for %v", life)
		}
		var q query
		q.read(sent)
		if !q.answeredBy(b, 1) {
			return
		}
		kept := plain(b)
		for _, edns := range []bool{false, true} {
			q.edns = edns
			for _, passed := range []time.Duration{0, 7 * time.Second, 1000 * time.Hour} {
				out := q.reply(kept, passed, nil)
				options := 0
				var ttls []uint32
				if _, ok := records(out, func(_ int, r *record) {
					if r.kind == typeOPT {
						options++
					} else {
						ttls = append(ttls, r.life(out))
					}
				}); !ok || edns != (options == 1) {
					t.Fatalf("%x of %x: %d OPT", out, b, options)
				}
				i := 0
				records(kept, func(_ int, r *record) {
					if r.kind != typeOPT {
						if before := r.life(kept); ttls[i] > before {
							t.Errorf("TTL %d of %d", ttls[i], before)
						}
						i++
					}
				})
				if word(out, 4) == 1 && !bytes.Equal(out[headerLen:headerLen+len(q.question)], q.question) {
					t.Errorf("another question: %x", out)
				}
			}
		}
		var c cache
		now := time.Unix(1e9, 0)
		key := q.key(nil)
		c.put(string(key), kept, now)
		if life := lifetimeOf(kept); (c.get(&q, key, nil, now) != nil) != (life.Duration > 0 && len(kept) < mostCachedBytes/8-len(key)) || c.get(&q, key, nil, now.Add(life.Duration)) != nil {
			t.Errorf("kept for %v: %x", life, kept)
		}
	})
}
