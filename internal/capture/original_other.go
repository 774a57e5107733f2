//go:build !linux

package capture

import (
	"errors"
	"net"
	"net/netip"
)

// OriginalDestination is of Linux only.
func OriginalDestination(*net.TCPConn) (netip.AddrPort, error) {
	return netip.AddrPort{}, errors.ErrUnsupported
}
