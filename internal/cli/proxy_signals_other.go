//go:build !unix

package cli

import (
	"os"
	"syscall"
)

// forwarded are the signals that a child is sent when we are.
func forwarded() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }
