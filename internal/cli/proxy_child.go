package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// What shells say of a command that cannot be run, and of one that a signal ended.
const (
	exitNotRunnable = 126
	exitNotFound    = 127
	exitSignal      = 128
)

// A child is the program behind the sidecar.
type child struct {
	cmd    *exec.Cmd
	exited chan int // gets the exit code
}

// startChild runs the command with the outbound listener as its HTTP proxy.
func startChild(cmd *cobra.Command, stderr io.Writer, args []string, outbound net.Addr) (*child, error) {
	c := &child{exited: make(chan int, 1)}
	c.cmd = exec.Command(args[0], args[1:]...) //nolint:gosec // the user's own command
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), stderr
	if f, ok := cmd.ErrOrStderr().(*os.File); ok {
		c.cmd.Stderr = f // the child's own, not a pipe that ends with us
	}
	c.cmd.WaitDelay = time.Second // for pipes that a grandchild holds open
	c.cmd.Env = childEnv(os.Environ(), outbound)
	if err := c.cmd.Start(); err != nil {
		return nil, &failure{notStarted(err), fmt.Errorf("start command: %w", err)}
	}
	go func() {
		_ = c.cmd.Wait() // what it says is in the state too
		c.exited <- exitCodeOf(c.cmd.ProcessState)
	}()
	return c, nil
}

// notStarted gives the exit code for a command that could not be started.
func notStarted(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return exitNotFound
	}
	return exitNotRunnable
}

// signal tells the child; one that has ended needs no telling.
func (c *child) signal(s os.Signal) {
	if c != nil {
		_ = c.cmd.Process.Signal(s)
	}
}

func exitCodeOf(state *os.ProcessState) int {
	if state == nil {
		return exitFailed
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitSignal + int(ws.Signal())
	}
	return state.ExitCode()
}

// childEnv gives the child's environment: what ours is, and the outbound listener as HTTP proxy in every
// spelling that runtimes look for. What is on the machine itself goes there directly.
func childEnv(env []string, outbound net.Addr) []string {
	if outbound == nil {
		return env
	}
	host, port, err := net.SplitHostPort(outbound.String())
	if err != nil {
		return env
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	url := "http://" + net.JoinHostPort(host, port)
	env = setEnv(env, "http_proxy", url)
	env = setEnv(env, "HTTP_PROXY", url)
	const here = "localhost,127.0.0.1,::1"
	for _, name := range []string{"no_proxy", "NO_PROXY"} {
		env = setEnv(env, name, joined(getEnv(env, name), ",", here))
	}
	env = setEnv(env, "NODE_USE_ENV_PROXY", "1")
	java := "-Dhttp.proxyHost=" + host + " -Dhttp.proxyPort=" + port + " -Dhttp.nonProxyHosts=localhost|127.*|[::1]"
	return setEnv(env, "JAVA_TOOL_OPTIONS", joined(getEnv(env, "JAVA_TOOL_OPTIONS"), " ", java))
}

func joined(had, separator, more string) string {
	if had == "" {
		return more
	}
	return had + separator + more
}

func getEnv(env []string, name string) string {
	for _, e := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

func setEnv(env []string, name, value string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(e string) bool { return strings.HasPrefix(e, name+"=") })
	return append(env, name+"="+value)
}
