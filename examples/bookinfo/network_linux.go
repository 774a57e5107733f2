package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// A network is that of -transparent: every program that knows nothing of a mesh has a machine to itself, with rules that capture
// its connections. The services in Go share another one, by which all are joined, and which has a link to ours. Nothing of it has a name
// in the file system: when the processes have ended, however they did, the kernel takes everything away.
type network struct {
	here     netip.Addr // our own end of the link
	services *machine
	captured []*machine
}

// networks are the ranges of which one is taken, of those that are for benchmarks (RFC 2544) and so are nobody's.
const networks = 64

func rangeOf(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(n), 0}), 24)
}

// host gives an address of a range.
func host(in netip.Prefix, n int) netip.Addr {
	a := in.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

// canCapture says why this process cannot make a network.
func canCapture() error {
	if os.Geteuid() != 0 {
		return errors.New("-transparent makes network namespaces and rules in them, which needs root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("-transparent needs the command %s: %w", tool, err)
		}
	}
	return nil
}

// openNetwork makes a network with so many captured machines.
func openNetwork(self string, captured int) (*network, error) {
	if err := canCapture(); err != nil {
		return nil, err
	}
	var failed error
	for n := range networks {
		if taken(rangeOf(n)) {
			continue
		}
		net := &network{here: host(rangeOf(n), 1)}
		err := net.open(self, fmt.Sprint("bookinfo", n), rangeOf(n), captured)
		if err == nil {
			return net, nil
		}
		net.end()
		if failed = err; !strings.Contains(err.Error(), "File exists") { // else another bookinfo was faster
			break
		}
	}
	if failed == nil {
		failed = fmt.Errorf("all networks of %s are taken", rangeOf(0).Addr())
	}
	return nil, fmt.Errorf("-transparent: %w", failed)
}

// taken reports whether an interface of ours has an address of a range.
func taken(in netip.Prefix) bool {
	all, _ := net.InterfaceAddrs() // ip says what is wrong
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Overlaps(in) {
			return true
		}
	}
	return false
}

func (n *network) open(self, link string, in netip.Prefix, captured int) error {
	services, thread, err := newMachine(host(in, 2))
	if err != nil {
		return err
	}
	n.services = services
	var none *machine
	err = none.ip(fmt.Sprintf("link add name %s type veth peer name port0 netns %d", link, thread),
		fmt.Sprintf("address add %s/%d dev %s", n.here, in.Bits(), link), fmt.Sprintf("link set %s up", link))
	if err != nil {
		return err
	}
	lines := []string{"link set lo up", "link add name switch type bridge", "link set port0 master switch", "link set port0 up",
		fmt.Sprintf("address add %s/%d dev switch", services.addr, in.Bits()), "link set switch up"}
	for k := 1; k <= captured; k++ {
		m, thread, err := newMachine(host(in, 2+k))
		if err != nil {
			return err
		}
		n.captured = append(n.captured, m)
		lines = append(lines, fmt.Sprintf("link add name port%d type veth peer name eth0 netns %d", k, thread),
			fmt.Sprintf("link set port%d master switch", k), fmt.Sprintf("link set port%d up", k))
	}
	if err := services.ip(lines...); err != nil {
		return err
	}
	errs := make([]error, captured)
	var all sync.WaitGroup
	for k, m := range n.captured {
		all.Go(func() { errs[k] = m.capture(self, in, n.here) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// capture gives a machine its address, and the rules that heddle writes.
func (m *machine) capture(self string, in netip.Prefix, gateway netip.Addr) error {
	err := m.ip("link set lo up", fmt.Sprintf("address add %s/%d dev eth0", m.addr, in.Bits()), "link set eth0 up",
		"route add default via "+gateway.String()) // for addresses that are never reached: calls to them are captured
	if err != nil {
		return err
	}
	cmd := exec.Command(self, captureArgs...)
	cmd.Env = append(environment(), roleEnv+"="+roleHeddle)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err = m.start(cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("heddle %s: %w: %s", strings.Join(captureArgs, " "), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// end lets the machines go.
func (n *network) end() {
	if n == nil {
		return
	}
	for _, m := range append(n.captured, n.services) {
		if m != nil {
			_ = m.end()
		}
	}
}
