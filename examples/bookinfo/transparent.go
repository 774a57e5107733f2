package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/heddlemesh/mesh/internal/capture"
)

// This file is -transparent: programs that are told nothing of a mesh, each on a machine whose rules hand its connections, both
// ways, to a sidecar beside it.

// servicePort is where programs listen on a machine of their own, and by which they call each other.
const servicePort = "9080"

// captureArgs is the command line of heddle that installs the rules.
var captureArgs = []string{"capture", "install", "--dns"}

// sidecarListens is what heddle logs when it takes captured connections.
var sidecarListens = regexp.MustCompile(`msg="heddle proxy is ready" .*admin=(\S+)`)

// connect gives every instance its machine. The programs in Go have the mesh inside and share one.
func (b *bookinfo) connect() error {
	captured := slices.DeleteFunc(slices.Clone(b.instances), func(i *instance) bool { return i.interpreter == nil })
	if len(captured) == 0 {
		return fmt.Errorf("-transparent captures programs that are not in Go, and there are none.\n%s", strings.Join(b.notes, "\n"))
	}
	for _, dir := range []string{b.dir, os.TempDir()} {
		if err := openToAll(dir); err != nil {
			return err
		}
	}
	net, err := openNetwork(b.place.self, len(captured))
	if err != nil {
		return err
	}
	b.network = net
	for _, i := range b.instances {
		i.machine = net.services
	}
	for n, i := range captured {
		i.machine = net.captured[n]
	}
	return nil
}

// openToAll says which directory the sidecars cannot go into, who have a user of their own.
func openToAll(dir string) error {
	dir, err := filepath.Abs(dir)
	for ; err == nil; dir = filepath.Dir(dir) {
		var info os.FileInfo
		if info, err = os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("-transparent: sidecars run as user %d and cannot go into %s, whose mode is %04o", capture.Owner, dir, info.Mode().Perm())
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return err
}

// captured reports whether the instance's program has its connections captured.
func (i *instance) captured() bool { return i.machine != nil && i.interpreter != nil }

// listens gives where an instance is to listen, the address where it has no machine of its own.
func (i *instance) listens(address string) string {
	switch {
	case i.machine == nil:
		return address
	case i.captured():
		return net.JoinHostPort(i.machine.addr.String(), servicePort)
	}
	return net.JoinHostPort(i.machine.addr.String(), "0")
}

// here is our own address, as instances see it.
func (b *bookinfo) here() netip.Addr {
	if b.network == nil {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return b.network.here
}

// openFront lets productpage be reached where people look.
func (b *bookinfo) openFront(addr string) error {
	if b.network == nil {
		return nil
	}
	front := b.instances[0]
	shown, err := front.machine.open(addr, front.address())
	b.shown = shown
	return err
}

// resolverFile is the resolv.conf of programs: the query is captured, whomever it is for, and answered by the sidecar.
const resolverFile = "resolv.conf"

func (b *bookinfo) writeResolver() error {
	return os.WriteFile(filepath.Join(b.place.scripts, resolverFile), []byte("nameserver "+b.here().String()+"\n"), fileMode)
}

// capturedSidecar is the command of heddle beside an instance's program, as the user that the rules exempt, who can open nothing
// of ours but the rules of the mesh and the socket of his identity.
func capturedSidecar(i *instance, in place, by *issuer) (*exec.Cmd, error) {
	socket := filepath.Join(in.scripts, i.name+".sock")
	if err := os.WriteFile(socket, nil, fileMode); err != nil {
		return nil, err
	}
	env := append(environment(), socketEnv+"=unix://"+socket)
	e := entrance{Role: roleSidecar, User: capture.Owner, Binds: map[string]string{socket: strings.TrimPrefix(by.endpoint(i), "unix://")}}
	return e.command(in.self, env, append(meshArgs(i, in), "--transparent")...), nil
}

// capturedProgram is the command of the program itself. It is told nothing.
func capturedProgram(i *instance, in place) *exec.Cmd {
	env := slices.DeleteFunc(environment(), func(e string) bool {
		name, _, _ := strings.Cut(strings.ToLower(e), "=")
		return strings.HasSuffix(name, "_proxy") || name == "java_tool_options" || name == "node_use_env_proxy"
	})
	e := entrance{Binds: map[string]string{"/etc/resolv.conf": filepath.Join(in.scripts, resolverFile)}, Dies: os.Getpid()}
	command := append(i.interpreter.command(in.script(i.interpreter.language), servicePort), "0.0.0.0")
	return e.command(in.self, append(env, instanceEnv(i)...), command...)
}

// accompany starts the program of a captured instance, whose sidecar runs already.
func (p *process) accompany(i *instance, in place, hear func(line string, stderr bool)) error {
	p.app = capturedProgram(i, in)
	ownGroup(p.app)
	p.app.WaitDelay = time.Second
	p.app.Stdout = &lineWriter{line: func(line string) { hear(line, false) }}
	p.app.Stderr = &lineWriter{line: func(line string) { hear(line, true) }}
	if err := i.machine.start(p.app); err != nil {
		return err
	}
	p.program.Store(int64(p.app.Process.Pid))
	return nil
}

// together returns when the sidecar and the program have both ended: one does not stay without the other. The sidecar drains
// first.
func (p *process) together() {
	gone := make(chan struct{})
	go func() {
		_ = p.app.Wait()
		p.hangUp()
		close(gone)
	}()
	_ = p.cmd.Wait()
	_ = p.app.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(5 * time.Second)
	defer t.Stop()
	select {
	case <-gone:
	case <-t.C:
		_ = p.app.Process.Kill()
		<-gone
	}
}
