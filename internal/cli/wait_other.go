//go:build !unix

package cli

import (
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"
)

// replaceWith runs the command and ends as it does.
func replaceWith(cmd *cobra.Command, path string, args []string) error {
	c := exec.CommandContext(cmd.Context(), path, args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := c.Start(); err != nil {
		return &failure{notStarted(err), fmt.Errorf("start command: %w", err)}
	}
	_ = c.Wait() // what it says is in the state too
	if code := exitCodeOf(c.ProcessState); code != exitOK {
		return &failure{code: code}
	}
	return nil
}
