package proxy

import (
	"net"
	"net/netip"
)

// sourceOf gives the address of who is at the other end of a connection, invalid where that has none.
func sourceOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
