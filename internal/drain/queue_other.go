//go:build !linux

package drain

import "net"

// Queued finds nothing here: a listener that closes resets what stands in the kernel's queue.
func Queued(net.Listener) net.Conn { return nil }

func refuse(net.Listener) {}
