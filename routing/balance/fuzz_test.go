package balance_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing/balance"
)

// FuzzNew makes pickers of whatever the bytes say — weights from 0 to the largest, repeated addresses, odd
// places, sizes, thresholds and warm-ups — and picks. A pick must be in the set, never an ejected endpoint
// while there is no threshold, and never none while one is healthy that the policy does not leave out.
func FuzzNew(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x03\x20\x07\x0a\xff\xff\xff\xff\x01\x01\x02\x03\x00\x00\x00\x00\x02\x02\x00\x01\x00\x00\x00\x03\x81\x02"))
	f.Add([]byte("\x04\x00\xff\x32\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x01\x01\x00\x00\x00\x05\x80\x01\x00\x00\x00\x06\x02\x03"))
	f.Add([]byte("\x01\x55\x00\x00\x7f\xff\xff\xff\x01\x42\xff\xff\xff\xff\x02\x33\x00\x00\x00\x01\x03\x21\x00\x00\x00\x01\x04\x10"))
	f.Add([]byte("001\x000000\xda10000\xf00000000")) // one address ejected and not
	places := []string{"", "us", "us/a", "us/a/1", "us/b/1", "eu/a/1", "//", "us/a/1/2"}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 4 || len(in) > 4+6*64 {
			return
		}
		config := balance.Config{
			Algorithm: balance.Algorithm(in[0] % 5), RingSize: uint32(in[1]), TableSize: uint32(in[1]) * 5,
			PanicThreshold: in[3], Warmup: balance.Warmup{Duration: time.Duration(in[2]) * time.Second,
				MinimumPercent: float64(in[1]), Aggression: float64(in[2]) / 16},
			Client: &balance.Client{Locality: balance.ParseLocality(places[in[1]%8]), Labels: map[string]string{"l": "1"}},
		}
		switch in[2] % 4 {
		case 1:
			config.Locality = &balance.LocalityPolicy{Failover: []balance.Failover{{From: "us", To: "eu"}}}
		case 2:
			config.Locality = &balance.LocalityPolicy{FailoverPriority: []string{"l", "topology.kubernetes.io/zone"}}
		case 3:
			config.Locality = &balance.LocalityPolicy{Distribute: []balance.Distribution{{From: "us/*", To: []balance.Share{
				{To: "us/a", Weight: uint32(in[1])}, {To: "eu", Weight: 1 << 5}, {To: "*", Weight: 1},
			}}}}
		}
		var all []*balance.Endpoint
		for in = in[4:]; len(in) >= 6; in = in[6:] {
			weight := binary.BigEndian.Uint32(in)
			if config.Algorithm == balance.RingHash {
				weight %= 1 << 6 // of uneven shares a ring gets large: TestRingSize
			}
			def := &discovery.Endpoint{Address: discovery.TCP("10.0.0.1", uint16(in[4]&0x3f)), Weight: weight, Locality: places[in[5]%8]}
			if in[5]&0x10 != 0 {
				def.Labels = map[string]string{"l": "1"}
			}
			e := balance.NewEndpoint(def, nil)
			e.Join(time.Duration(in[5]) * time.Second)
			if in[4]&0x80 != 0 {
				e.Eject()
			}
			all = append(all, e)
		}
		p := balance.New(config, all, 1)
		var healthy int
		for i := range p.Len() {
			if !slices.Contains(all, p.At(i)) {
				t.Fatal("the list has an endpoint of its own")
			}
			if p.At(i).Healthy() {
				healthy++
			}
		}
		rnd := random(1)
		for i := range 64 {
			e := p.Pick(balance.Draw{Random: rnd.Uint64(), Hash: rnd.Uint64(), Hashed: i%2 == 0, Step: uint8(i),
				Now: time.Duration(i) * 10 * time.Second})
			switch {
			case e == nil && (healthy > 0 || p.Len() > 0 && config.PanicThreshold > 0):
				t.Fatalf("picked none of %d, %d of them healthy", p.Len(), healthy)
			case e != nil && !slices.Contains(all, e):
				t.Fatal("picked what is not in the set")
			case e != nil && !e.Healthy() && config.PanicThreshold == 0:
				t.Fatal("picked an ejected endpoint")
			}
		}
	})
}

// FuzzParseLocality: what is written is read again.
func FuzzParseLocality(f *testing.F) {
	for _, s := range []string{"", "us", "us/a", "us/a/1", "us//1", "///", "us/*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l := balance.ParseLocality(s)
		if again := balance.ParseLocality(l.String()); again.Region != l.Region || again.Zone != l.Zone {
			t.Errorf("%q is %+v, and then %+v", s, l, again)
		}
	})
}
