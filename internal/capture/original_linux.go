package capture

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h).
const soOriginalDst = 80

// OriginalDestination says where a connection meant to go that was redirected to a listener of this process. Of one that was
// not it may give the listener's own address, or an error.
func OriginalDestination(conn *net.TCPConn) (netip.AddrPort, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	remote, _ := conn.RemoteAddr().(*net.TCPAddr)
	level := syscall.SOL_IPV6
	if remote != nil && remote.AddrPort().Addr().Unmap().Is4() {
		level = syscall.SOL_IP
	}
	var info *syscall.IPv6MTUInfo // of package syscall's options the one that has room for an address of each family
	var failed error
	if err = raw.Control(func(fd uintptr) { info, failed = syscall.GetsockoptIPv6MTUInfo(int(fd), level, soOriginalDst) }); err != nil {
		return netip.AddrPort{}, err
	}
	if failed != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockopt", failed)
	}
	return readSockaddr(&info.Addr)
}

// readSockaddr reads a sockaddr_in6, or the sockaddr_in that stands in its place.
func readSockaddr(a *syscall.RawSockaddrInet6) (netip.AddrPort, error) {
	var b [4]byte
	binary.NativeEndian.PutUint16(b[:], a.Port) // it is in network byte order
	port := binary.BigEndian.Uint16(b[:])
	switch a.Family {
	case syscall.AF_INET: // whose address is where the other one has its flow
		binary.NativeEndian.PutUint32(b[:], a.Flowinfo)
		return netip.AddrPortFrom(netip.AddrFrom4(b), port), nil
	case syscall.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), port), nil
	}
	return netip.AddrPort{}, fmt.Errorf("original destination: address family %d", a.Family)
}
