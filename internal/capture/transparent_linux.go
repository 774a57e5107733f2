package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// IP_BIND_ADDRESS_NO_PORT and IPV6_TRANSPARENT (linux/in.h, linux/in6.h), which package syscall does not have.
const (
	ipBindAddressNoPort = 24
	ipv6Transparent     = 75
)

// Transparent lets a listener be given connections to any address, as TPROXY does. It needs CAP_NET_ADMIN or CAP_NET_RAW.
func Transparent(l net.Listener) error {
	s, ok := l.(syscall.Conn)
	if !ok {
		return errors.New("it is no listener of the kernel's")
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	return control(raw, transparent)
}

func transparent(fd int) error {
	domain, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_DOMAIN)
	switch {
	case err != nil:
		return os.NewSyscallError("getsockopt", err)
	case domain == syscall.AF_INET6:
		return os.NewSyscallError("setsockopt IPV6_TRANSPARENT", syscall.SetsockoptInt(fd, syscall.SOL_IPV6, ipv6Transparent, 1))
	}
	return os.NewSyscallError("setsockopt IP_TRANSPARENT", syscall.SetsockoptInt(fd, syscall.SOL_IP, syscall.IP_TRANSPARENT, 1))
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// DialAs connects to an address of this machine from one that is another's: the caller's, who is to be seen. What comes back stays here
// by Mark, with the routes that Install adds for TPROXY. It needs what Transparent needs.
func DialAs(ctx context.Context, d net.Dialer, from netip.Addr, to string) (net.Conn, error) {
	d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	d.Control = func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error {
			return errors.Join(transparent(fd), mark(fd), // of ports there are enough for each address that is called
				os.NewSyscallError("setsockopt IP_BIND_ADDRESS_NO_PORT", syscall.SetsockoptInt(fd, syscall.SOL_IP, ipBindAddressNoPort, 1)))
		})
	}
	return d.DialContext(ctx, "tcp", to)
}

func mark(fd int) error {
	return os.NewSyscallError("setsockopt SO_MARK", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_MARK, Mark))
}

// CheckTransparent says what this machine or this process lacks for TPROXY, nil for nothing: a capability, the rule for the mark or the
// route of Install, for IPv6 only where there is IPv6.
func CheckTransparent() error {
	for _, f := range []struct {
		domain int
		flag   string
	}{{syscall.AF_INET, "-4"}, {syscall.AF_INET6, "-6"}} {
		if err := checkFamily(f.domain, f.flag); err != nil {
			return err
		}
	}
	return nil
}

func checkFamily(domain int, flag string) error {
	fd, err := syscall.Socket(domain, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil || loopbackOf(domain) != nil {
		return nil // the machine does not have the family
	}
	defer syscall.Close(fd)
	for _, need := range []func(int) error{transparent, mark} {
		if err := need(fd); err != nil {
			return fmt.Errorf("TPROXY: the sidecar does not have the capability CAP_NET_ADMIN, which this mode needs: %w", err)
		}
	}
	const adds = "TPROXY: %s missing: ip %s %s; heddle capture install --tproxy adds it"
	if is, err := inRouting(syscall.RTM_GETRULE, domain, func(b []byte) bool { return readRule(b).leadsHere() }); err != nil || !is {
		return errors.Join(err, fmt.Errorf(adds, "the rule for the mark is", flag, fmt.Sprintf("rule add fwmark %d lookup %d", Mark, RouteTable)))
	}
	if is, err := inRouting(syscall.RTM_GETROUTE, domain, isRouteHere); err != nil || !is {
		return errors.Join(err, fmt.Errorf(adds, "the route for marked packets is", flag, fmt.Sprintf("route add local default dev lo table %d", RouteTable)))
	}
	return nil
}

// loopbackOf reports whether a family can be used.
func loopbackOf(domain int) error {
	address := "127.0.0.1:0"
	if domain == syscall.AF_INET6 {
		address = "[::1]:0"
	}
	l, err := net.Listen("tcp", address)
	if err == nil {
		err = l.Close()
	}
	return err
}

// The parts of a rule of routing and of a route (linux/fib_rules.h, linux/rtnetlink.h).
const (
	fraMark       = 10
	fraTable      = 15
	fraProtocol   = 21
	routingHeader = 12 // of both
	attributeLen  = 4
)

// inRouting looks among what the kernel has of a kind and a family. Where it does not have the family it gives those of others.
func inRouting(what, domain int, is func(b []byte) bool) (bool, error) {
	b, err := syscall.NetlinkRIB(what, domain)
	if err != nil {
		return false, os.NewSyscallError("netlink", err)
	}
	all, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return false, os.NewSyscallError("netlink", err)
	}
	for _, m := range all {
		if len(m.Data) >= routingHeader && int(m.Data[0]) == domain && is(m.Data) {
			return true, nil
		}
	}
	return false, nil
}

// isRouteHere knows the route by its length, table and type.
func isRouteHere(b []byte) bool {
	return b[1] == 0 && b[4] == RouteTable && b[7] == syscall.RTN_LOCAL
}

// A routingRule is what matters of one.
type routingRule struct {
	mark, table uint32
	protocol    uint8
}

// leadsHere knows the rule for Mark.
func (r routingRule) leadsHere() bool { return r.mark == Mark && r.table == RouteTable }

// readRule reads a rule's attributes.
func readRule(b []byte) (r routingRule) {
	attributes(b[routingHeader:], func(kind uint16, value []byte) {
		switch {
		case kind == fraMark && len(value) == 4:
			r.mark = binary.NativeEndian.Uint32(value)
		case kind == fraTable && len(value) == 4:
			r.table = binary.NativeEndian.Uint32(value)
		case kind == fraProtocol && len(value) == 1:
			r.protocol = value[0]
		}
	})
	return r
}

// attributes goes through those of a message (netlink(7)).
func attributes(b []byte, each func(kind uint16, value []byte)) {
	for len(b) >= attributeLen {
		size := int(binary.NativeEndian.Uint16(b))
		if size < attributeLen || size > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:]), b[attributeLen:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}
