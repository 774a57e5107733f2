//go:build unix

package cli

import (
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"
)

// replaceWith makes this process be the command, so that signals, and whoever waits for it, reach that.
func replaceWith(_ *cobra.Command, path string, args []string) error {
	err := syscall.Exec(path, args, os.Environ()) //nolint:gosec // the user's own command
	return &failure{notStarted(err), fmt.Errorf("start command: %w", err)}
}
