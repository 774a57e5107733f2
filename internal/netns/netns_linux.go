package netns

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// The variables that ask for tests in namespaces, and that tell a process that it is in one.
const (
	asked  = "HEDDLE_NETNS"
	inside = "HEDDLE_NETNS_INSIDE"
)

// Enter reports whether the test is in a namespace that nobody else is in, with lo up. Where it is not, Enter has run the test
// in a process of its own that is, and has failed or skipped it as that went. The test is one of the top, and not parallel.
func Enter(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		Command(t, "ip", "link", "set", "lo", "up")
		return true
	}
	if os.Getenv(asked) == "" {
		t.Skip("needs a network namespace: HEDDLE_NETNS=1, as root")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	for _, tool := range []string{"ip", "nft", "iptables-nft", "iptables-legacy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs ", tool)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=200s") //nolint:gosec // G204: it is this test
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // whose end would end it
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("in its namespace: %v", err)
	}
	return false
}

// Command runs a program of the system in the test's namespace. It fails the test where that fails.
func Command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput() //nolint:gosec // G204: tests say what
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// As calls f in a thread whose sockets belong to the user and group.
func As(uid, gid int, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSGID, uintptr(gid), 0, 0)
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, uintptr(uid), 0, 0)
		done <- f()
	}()
	return <-done
}

// DialAs connects as a user and group do. The address is one of numbers.
func DialAs(uid, gid int, address string) (conn net.Conn, err error) {
	err = As(uid, gid, func() error {
		conn, err = net.Dial("tcp", address)
		return err
	})
	return conn, err
}

// The addresses of the two machines, and the names of the interfaces between them.
const (
	HereV4, HereV6   = "10.77.0.1", "fd77::1"
	ThereV4, ThereV6 = "10.77.0.2", "fd77::2"
	HereLink         = "here0"
	thereLink        = "there0"
)

// A Machine is another namespace, with one link to the test's. Its methods are not for use at the same time.
type Machine struct {
	work chan func()
}

// NewMachine makes one, and gives both ends of the link their addresses. It ends with the test.
func NewMachine(t *testing.T) *Machine {
	t.Helper()
	m := &Machine{work: make(chan func())}
	ready := make(chan error)
	var tid int
	go func() {
		runtime.LockOSThread() // and never unlocked
		tid = syscall.Gettid()
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		ready <- err
		if err != nil {
			return
		}
		for f := range m.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(m.work) })
	Command(t, "ip", "link", "add", HereLink, "type", "veth", "peer", "name", thereLink, "netns", fmt.Sprint(tid))
	addresses := func(link, v4, v6 string) {
		Command(t, "ip", "address", "add", v4+"/24", "dev", link)
		Command(t, "ip", "address", "add", v6+"/64", "dev", link, "nodad")
		Command(t, "ip", "link", "set", link, "up")
	}
	addresses(HereLink, HereV4, HereV6)
	m.Do(func() {
		Command(t, "ip", "link", "set", "lo", "up")
		addresses(thereLink, ThereV4, ThereV6)
	})
	return m
}

// Do calls f in a thread of the machine: the sockets that f itself opens, and the programs that it starts, are there. f must not
// end the goroutine.
func (m *Machine) Do(f func()) {
	done := make(chan struct{})
	m.work <- func() { defer close(done); f() }
	<-done
}

// Dial connects from the machine. The address is one of numbers.
func (m *Machine) Dial(address string) (conn net.Conn, err error) {
	m.Do(func() { conn, err = net.Dial("tcp", address) })
	return conn, err
}

// Listen listens on the machine. The address is one of numbers.
func (m *Machine) Listen(address string) (l net.Listener, err error) {
	m.Do(func() { l, err = net.Listen("tcp", address) })
	return l, err
}
