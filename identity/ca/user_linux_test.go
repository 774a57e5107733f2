package ca_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/identity/ca"
)

// askEnv makes the test's binary a program that connects to a socket and says what became of it.
const askEnv = "HEDDLE_TEST_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(askEnv); socket != "" {
		fmt.Println(heard(socket))
		return
	}
	os.Exit(m.Run())
}

// heard says whether somebody speaks on a socket: a gRPC server, which begins with its settings.
func heard(socket string) string {
	conn, err := net.Dial("unix", socket)
	if errors.Is(err, os.ErrPermission) {
		return "closed"
	}
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return "closed"
	}
	if _, err := io.ReadFull(conn, make([]byte, 9)); err != nil {
		return "closed"
	}
	return "heard"
}

// TestWorkloadUser: a user of its own may ask for a workload's identity, whichever directory the socket is shown in, and nobody else but the CA's.
func TestWorkloadUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a socket to another user")
	}
	for dir := os.TempDir(); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			t.Skip(dir, " is closed to other users")
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	a, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const user, other = 1337, 1338
	theirs, ours := workloadOf(t, "theirs=default/ratings"), workloadOf(t, "ours=default/web")
	theirs.User = user
	s, _ := run(t, a, ca.ServerOptions{Workloads: []ca.Workload{theirs, ours}})
	for _, dir := range []string{filepath.Dir(s.Socket(theirs)), filepath.Dir(filepath.Dir(s.Socket(theirs)))} { // s in a directory of the test's
		if err := os.Chmod(dir, 0o711); err != nil { // in the place of a mount
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		who  uint32
		w    ca.Workload
		want string
	}{{user, theirs, "heard"}, {other, theirs, "closed"}, {0, theirs, "heard"}, {user, ours, "closed"}, {0, ours, "heard"}} {
		if got := askAs(t.Context(), c.who, s.Socket(c.w)); got != c.want {
			t.Errorf("user %d at the socket of %s: %s, want %s", c.who, c.w.Name, got, c.want)
		}
	}
	if err := os.Chmod(s.Socket(theirs), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := askAs(t.Context(), other, s.Socket(theirs)); got != "closed" {
		t.Errorf("a socket that is open to all: %s", got)
	}
}

// askAs runs the test's binary as a user.
func askAs(ctx context.Context, user uint32, socket string) string {
	cmd := exec.CommandContext(ctx, "/proc/self/exe") // wherever it lies: the user need not be able to go there
	cmd.Env = append(os.Environ(), askEnv+"="+socket)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return err.Error() + ": " + string(out)
	}
	return strings.TrimSpace(string(out))
}
