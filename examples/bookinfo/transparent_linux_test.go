package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/internal/netns"
)

// TestNamespacePlaintext: where programs are captured, a packet capture between their network namespaces under STRICT has nothing of what
// they say to each other.
func TestNamespacePlaintext(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	b, err := start(t.Context(), settings{addr: "127.0.0.1:0", languages: auto, captured: true, rules: strictRules(t, 2), stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	var fd int
	b.network.services.do(func() { fd, err = listenTo("") })
	if err != nil {
		t.Fatal(err)
	}
	stop := overhear(fd, b.behindFront())
	openPages(t, b)
	judgeSecrecy(t, stop())
}

// TestNamespaceEnd: whether it is interrupted or killed, nothing is left of a network: no link, no process.
func TestNamespaceEnd(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		pids := ended(t, sig)
		if len(pids) < 6 {
			t.Errorf("processes %v", pids)
		}
		for _, pid := range pids {
			eventually(t, "a process lives after "+sig.String(), func() bool { return !alive(pid) })
		}
		eventually(t, "a link is there after "+sig.String(), func() bool {
			links, err := net.Interfaces()
			return err == nil && len(links) == 1 && links[0].Name == "lo"
		})
	}
}

// ended starts the whole program, ends it by a signal, and gives the processes that there were.
func ended(t *testing.T, sig syscall.Signal) (pids []int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir() // for what it cannot take away
	for _, dir := range []string{temp, filepath.Dir(temp)} {
		if err := os.Chmod(dir, dirMode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-transparent")
	cmd.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+temp)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	processes := regexp.MustCompile(` (\d+)(?:, proxy (\d+))?$`)
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Stop") {
		if m := processes.FindStringSubmatch(lines.Text()); m != nil && strings.Contains(lines.Text(), "http://") {
			for _, s := range m[1:] {
				if pid, err := strconv.Atoi(s); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	_ = cmd.Process.Signal(sig)
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	return pids
}
