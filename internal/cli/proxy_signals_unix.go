//go:build unix

package cli

import (
	"os"
	"syscall"
)

// handled are the signals that do not end the sidecar at once. SIGQUIT does, as in every Go program: with what all goroutines do, on stderr,
// and exit code 2.
func handled() []os.Signal {
	return []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE}
}

// forwarded are the signals that a child is sent when we are.
func forwarded() []os.Signal {
	return []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH}
}

// reloads reports the signal for reading files anew.
func reloads(s os.Signal) bool { return s == syscall.SIGHUP }

// ignored reports what comes of writing to where nobody reads, the log above all: it is no reason to end, and nobody else's business.
func ignored(s os.Signal) bool { return s == syscall.SIGPIPE }
