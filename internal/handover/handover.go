// Package handover passes listening sockets, and those of UDP, from a process to the one that takes its place, over a Unix socket, so that no
// connection is refused meanwhile: the sockets, and who waits in their queues, are never without a process. Linux only. Layer L0.
//
// The successor connects and is sent the sockets. Both accept from them until it says that it is ready; then the predecessor stops, says
// so, and goes on with what it has. Whatever goes wrong before that leaves the predecessor as it was.
package handover

import (
	"errors"
	"io"
)

// A Socket is a listener of TCP or on a Unix socket, or a *net.UDPConn, by the name under which its successor asks for it.
type Socket struct {
	Name string
	io.Closer
}

// ErrUnsupported says that the system has no way to do it.
var ErrUnsupported = errors.New("sockets cannot be handed over on this system")

// greeting is what the predecessor sends, in one line, with the sockets in the order of their names.
type greeting struct {
	Protocol int      `json:"protocol"`
	Names    []string `json:"names"`
}

const (
	protocol    = 1
	maxSockets  = 250 // one message of the kernel's takes 253
	maxGreeting = 64 << 10

	ready = "ready\n" // the successor's word
	yours = "yours\n" // the predecessor's
)
