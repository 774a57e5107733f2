package meshtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// A network is all instances of a test and what reached them. It is safe for concurrent use.
type network struct {
	mu        sync.Mutex
	instances []*Instance // the nth has the nth address
	events    []*event    // in the order of arrival
	callers   int
}

// An event is a request that reached an instance, or a connection that one refused. network.mu guards it.
type event struct {
	instance *Instance
	refused  bool
	coded    bool // call.Code is known
	call     Call
}

// Instances and callers have addresses of 198.18.0.0/15, which RFC 2544 sets apart for tests of networks:
// no endpoint of a real configuration is one of them.
var (
	firstInstance = netip.AddrFrom4([4]byte{198, 18, 0, 0})
	firstCaller   = netip.AddrFrom4([4]byte{198, 19, 0, 0})
)

// nth gives the nth address after the first.
func nth(first netip.Addr, n int) netip.Addr {
	a := first.As4()
	n += int(a[2])<<8 | int(a[3])
	return netip.AddrFrom4([4]byte{a[0], a[1], byte(n >> 8), byte(n)})
}

// add gives the instance its address and its number.
func (n *network) add(i *Instance, port int) (number int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.instances = append(n.instances, i)
	i.addr = netip.AddrPortFrom(nth(firstInstance, len(n.instances)), uint16(port))
	return len(n.instances)
}

// at gives the instance of an address, nil where there is none: of a name the first, which is for what a mesh asks by itself,
// such as the issuers of tokens.
func (n *network) at(address string) *Instance {
	is := func(*Instance) bool { return false }
	if ap, err := netip.ParseAddrPort(address); err == nil {
		is = func(i *Instance) bool { return i.addr.Addr() == ap.Addr() }
	} else if host, _, err := net.SplitHostPort(address); err == nil {
		is = func(i *Instance) bool { return i.host == canonical(host) }
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	k := slices.IndexFunc(n.instances, is)
	if k < 0 {
		return nil
	}
	return n.instances[k]
}

func (n *network) all() []*Instance {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.instances)
}

// caller gives the dial function of one more caller, which has an address of its own. unknown says of a host
// that is not in the test why it is not there.
func (n *network) caller(unknown func(host string) error) func(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	n.callers++
	from := nth(firstCaller, n.callers)
	n.mu.Unlock()
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		i := n.at(address)
		if i == nil {
			err := errors.New("no instance of the test is there: add one with Env.HTTP or Env.GRPC")
			if _, notIP := netip.ParseAddrPort(address); notIP != nil {
				err = unknown(address)
			}
			return nil, &net.OpError{Op: "dial", Net: network, Addr: name(address), Err: err}
		}
		to := i.addr
		if ap, err := netip.ParseAddrPort(address); err == nil {
			to = ap
		}
		return i.connect(ctx, net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, n.ephemeral())), net.TCPAddrFromAddrPort(to))
	}
}

// LookupNetIP implements mesh.Resolver: a name has the addresses of its instances.
func (n *network) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var addrs []netip.Addr
	for _, i := range n.instances {
		if i.host == canonical(host) {
			addrs = append(addrs, i.addr.Addr())
		}
	}
	if addrs == nil {
		return nil, &net.DNSError{Err: "no such host in the test: add instances with Env.HTTP or Env.GRPC", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

// ephemeral gives a caller's port; they need not differ, but tell connections apart.
func (n *network) ephemeral() uint16 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return uint16(32768 + len(n.events)%28000)
}

// record notes an event.
func (n *network) record(e *event) *event {
	e.call.At = time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
	return e
}

// note changes an event.
func (n *network) note(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// since gives copies of the events from a place on.
func (n *network) since(from int) []event {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]event, 0, len(n.events)-from)
	for _, e := range n.events[from:] {
		list = append(list, *e)
	}
	return list
}

// now gives the place after the last event.
func (n *network) now() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.events)
}

// name is an address in words.
type name string

func (name) Network() string  { return "tcp" }
func (n name) String() string { return string(n) }

// outside is the pass-through of a test's mesh: nothing is beyond it.
type outside struct{ env *Env }

func (o outside) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	return nil, o.env.unknown(req.URL.Host)
}

// unknown is the error of a call to a host that is not in the test's mesh.
func (e *Env) unknown(host string) error {
	known := e.world.hosts(e.workload.Namespace)
	if len(known) == 0 {
		known = []string{"no host"}
	}
	return fmt.Errorf("host %s is not in the test's mesh, which has %s; add instances with Env.HTTP or Env.GRPC",
		host, strings.Join(known, ", "))
}
