//go:build !linux

package ca

import "net"

// attested has nothing to add to the mode of the socket here.
type attested struct {
	net.Listener
	_ uint32
}
