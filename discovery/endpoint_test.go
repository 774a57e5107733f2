package discovery_test

import (
	"reflect"
	"testing"

	"github.com/heddlemesh/mesh/discovery"
)

func TestAddress(t *testing.T) {
	t.Parallel()
	via := discovery.TCP("10.0.0.1", 80)
	via.Via = "10.9.9.9:15443"
	for want, a := range map[string]discovery.Address{
		"10.0.0.1:80":                    discovery.TCP("10.0.0.1", 80),
		"[2001:db8::1]:443":              discovery.TCP("2001:db8::1", 443),
		"db.example:65535":               discovery.TCP("db.example", 65535),
		"unix:///run/app.sock":           discovery.Unix("/run/app.sock"),
		"unix://@abstract":               discovery.Unix("@abstract"),
		"10.0.0.1:80 via 10.9.9.9:15443": via,
	} {
		if got := a.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if discovery.TCP("10.0.0.1", 80) == via ||
		discovery.TCP("/x", 0) == discovery.Unix("/x:0") {
		t.Error("addresses are equal that differ, or differ that are equal")
	}
}

func TestEndpointMatches(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"app": "reviews", "version": "v2", "empty": ""}
	for name, c := range map[string]struct {
		selector map[string]string
		want     bool
	}{
		"nil":                     {nil, true},
		"empty":                   {map[string]string{}, true},
		"one":                     {map[string]string{"version": "v2"}, true},
		"both":                    {map[string]string{"version": "v2", "app": "reviews"}, true},
		"other value":             {map[string]string{"version": "v1"}, false},
		"one of two":              {map[string]string{"version": "v2", "app": "ratings"}, false},
		"label not there":         {map[string]string{"zone": "a"}, false},
		"empty value":             {map[string]string{"empty": ""}, true},
		"empty value is no match": {map[string]string{"zone": ""}, false},
	} {
		e := discovery.Endpoint{Labels: labels}
		if got := e.Matches(c.selector); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if bare := (discovery.Endpoint{}); bare.Matches(map[string]string{"app": ""}) {
		t.Error("an endpoint without labels has one")
	}
}

func TestSetKeepsOrderAndFirst(t *testing.T) {
	t.Parallel()
	s := discovery.NewSet(
		discovery.Endpoint{Address: discovery.TCP("c", 1), Weight: 1},
		discovery.Endpoint{Address: discovery.TCP("a", 1), Weight: 2},
		discovery.Endpoint{Address: discovery.TCP("c", 1), Weight: 3},
		discovery.Endpoint{Address: discovery.TCP("b", 1), Weight: 4},
		discovery.Endpoint{Address: discovery.Address{Network: "tcp", Addr: "c:1", Via: "gateway"}, Weight: 5},
	)
	var got []uint32
	for i := range s.Len() {
		got = append(got, s.At(i).Weight)
	}
	if want := []uint32{1, 2, 4, 5}; !reflect.DeepEqual(got, want) {
		t.Errorf("the set has the endpoints %v, want %v", got, want)
	}
	if empty := discovery.NewSet(); empty.Len() != 0 {
		t.Errorf("an empty set has %d endpoints", empty.Len())
	}
}

func TestSetIsNotTheCallersSlice(t *testing.T) {
	t.Parallel()
	mine := []discovery.Endpoint{{Address: discovery.TCP("a", 1)}, {Address: discovery.TCP("b", 1)}}
	s := discovery.NewSet(mine...)
	mine[0].Address = discovery.TCP("z", 1)
	mine[1] = discovery.Endpoint{}
	if s.At(0).Address != discovery.TCP("a", 1) || s.At(1).Address != discovery.TCP("b", 1) {
		t.Errorf("the set changed with the caller's slice: %v, %v", s.At(0), s.At(1))
	}
}

// TestSetEqual changes every field there is, one at a time: a field that Equal forgets would be a change
// that nobody hears of.
func TestSetEqual(t *testing.T) {
	t.Parallel()
	full := func() discovery.Endpoint {
		return discovery.Endpoint{
			Address: discovery.TCP("a", 1), Resolve: true, Labels: map[string]string{"app": "x"}, Weight: 3, Locality: "r/z/s",
			Network: "n", ServiceAccount: "sa", Namespace: "ns", MTLS: true, Workload: "ns/w",
		}
	}
	base := discovery.NewSet(full())
	if !base.Equal(discovery.NewSet(full())) {
		t.Error("the same endpoints are not equal")
	}
	for i := range reflect.TypeFor[discovery.Endpoint]().NumField() {
		e := full()
		f := reflect.ValueOf(&e).Elem().Field(i)
		if f.IsZero() {
			t.Errorf("the test knows no value for %s", reflect.TypeOf(e).Field(i).Name)
		}
		f.SetZero()
		if changed := discovery.NewSet(e); base.Equal(changed) || changed.Equal(base) {
			t.Errorf("a set with another %s is equal", reflect.TypeOf(e).Field(i).Name)
		}
	}
	other := discovery.Endpoint{Address: discovery.TCP("b", 1)}
	forward, backward := discovery.NewSet(full(), other), discovery.NewSet(other, full())
	if base.Equal(forward) || forward.Equal(base) || forward.Equal(backward) {
		t.Error("sets of other length or order are equal")
	}
	unlabelled, empty := discovery.NewSet(other), other
	empty.Labels = map[string]string{}
	if !unlabelled.Equal(discovery.NewSet(empty)) || !discovery.NewSet().Equal(discovery.NewSet()) {
		t.Error("nothing differs from nothing")
	}
}
