//go:build !unix

package cli

import (
	"os"
	"syscall"
)

// handled are the signals that do not end the sidecar at once.
func handled() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

// forwarded are the signals that a child is sent when we are.
func forwarded() []os.Signal { return handled() }

func reloads(os.Signal) bool { return false }
func ignored(os.Signal) bool { return false }
