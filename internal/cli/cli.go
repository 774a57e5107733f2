package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes. Those for findings, usage and input are istioctl's; the last is what shells expect of a
// program that was interrupted.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 64
	exitInput       = 65 // input that cannot be read, or is not YAML
	exitFindings    = 79
	exitInterrupted = 130
)

// A failure ends a command with a code. err is written to stderr; nil means that all has been said.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit code %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func usageError(format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(format, args...)}
}

// Main runs the command line and gives the exit code. SIGINT and SIGTERM end what is under way; the second
// one ends the process as it would any other. It is called once in a process.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, os.Interrupt, syscall.SIGTERM)
	go func() {
		sig := <-asked
		signal.Stop(asked)
		cancel(signalled{sig})
	}()
	return run(ctx, args, stdin, stdout, stderr)
}

// signalled is the cause of a context that a signal ended.
type signalled struct{ os.Signal }

func (s signalled) Error() string { return s.String() }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(append([]string{}, args...)) // nil would stand for os.Args
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	// Commands fail with a failure; what else comes is cobra's, about flags, arguments and names.
	f, ours := errors.AsType[*failure](err)
	if !ours {
		f = &failure{exitUsage, err}
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		f = &failure{exitInterrupted, errors.New("interrupted")}
	}
	if f.err != nil {
		fmt.Fprintf(stderr, "heddle: %v\n", f.err)
	}
	if f.code == exitUsage && f.err != nil { // without one it is the exit code of somebody's command
		fmt.Fprintf(stderr, "Usage: %s\nTry \"%s --help\".\n", cmd.UseLine(), cmd.CommandPath())
	}
	return f.code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "heddle COMMAND",
		Short: "A service mesh inside your program, driven by Istio YAML",
		Long: `heddle checks and explains the Istio YAML that drives a mesh, without a cluster, runs
it as a sidecar for programs that are not written in Go, and gives programs identities.

Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure,
64 wrong usage, 65 input that cannot be read or is no YAML, 79 findings, 130 interrupted;
heddle proxy ends with its command's.`,
		Example: `  heddle analyze mesh.d
  heddle explain --config mesh.d http://reviews:9080/reviews/1 -H 'end-user: jason'`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(analyzeCommand(), explainCommand(), authzCommand(), proxyCommand(), waitCommand(), proxyConfigCommand(), proxyStatusCommand(), graphCommand(), captureCommand(), injectCommand(),
		caCommand(), versionCommand())
	return root
}

// action makes a command's work of do: a plain error is a failure, not wrong usage.
func action(do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := do(cmd, args)
		if _, ok := errors.AsType[*failure](err); err == nil || ok {
			return err
		}
		return &failure{exitFailed, err}
	}
}

// emit writes a command's whole result at once: a pipe's reader that has gone, or a full disk, is an error.
func emit(cmd *cobra.Command, result []byte) error {
	if _, err := cmd.OutOrStdout().Write(result); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}
