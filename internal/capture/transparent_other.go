//go:build !linux

package capture

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Transparent fails: there is no TPROXY.
func Transparent(net.Listener) error { return errors.ErrUnsupported }

// DialAs fails: there is no TPROXY.
func DialAs(context.Context, net.Dialer, netip.Addr, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

// CheckTransparent fails: there is no TPROXY.
func CheckTransparent() error { return errors.ErrUnsupported }
