package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What children say to their parent, on stdout.
const (
	sayListening = "bookinfo: listening "
	sayReady     = "bookinfo: ready"
	sayProgram   = "bookinfo: program "
)

// sidecarReady is what heddle logs when its listeners are open.
var sidecarReady = regexp.MustCompile(`msg="heddle proxy is ready" inbound=(\S+) .*admin=(\S+)`)

// A process is one child as its parent sees it: a service in Go, or a sidecar and the program behind it. The
// parent holds its standard input: when that ends, by end or because the parent died, the child ends too.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	once  sync.Once // for stdin

	found     sync.Once     // for what follows
	listening chan struct{} // closed when the two are known
	addr      string        // where callers reach it
	admin     string        // its admin pages
	behind    string        // where the program behind a sidecar listens

	serves   sync.Once     // for what follows
	ready    chan struct{} // closed when a service in Go serves
	program  atomic.Int64  // process id of the program behind a sidecar
	up       atomic.Bool   // its start is complete
	expected atomic.Bool   // its end is
	exited   chan struct{} // closed when it has ended
}

// spawn starts the process of an instance, which listens on the address and reads its configuration in dir.
// Every line it writes is handed to hear; died hears of an end that nobody asked for.
func spawn(i *instance, listen string, in place, by *issuer, hear func(line string, stderr bool), died func(error)) (*process, error) {
	p := &process{listening: make(chan struct{}), ready: make(chan struct{}), exited: make(chan struct{})}
	p.cmd = exec.Command(in.self)                                                 //nolint:gosec // ourselves
	p.cmd.Env = append([]string{"OTEL_BSP_SCHEDULE_DELAY=500"}, environment()...) // spans are to be seen soon, by collectors that rules name
	p.cmd.Env = append(p.cmd.Env, "HOSTNAME="+i.name, "SERVICE_VERSION="+i.version, socketEnv+"="+by.endpoint(i))
	p.cmd.Env = append(p.cmd.Env, i.env...)
	if i.interpreter == nil {
		p.cmd.Env = append(p.cmd.Env, roleEnv+"="+roleService, "BOOKINFO_SERVICE="+i.service, "BOOKINFO_LISTEN="+listen, "BOOKINFO_CONFIG="+in.config)
	} else {
		var err error
		if p.behind, err = freeAddress(); err != nil {
			return nil, err
		}
		p.cmd.Args = append(p.cmd.Args, sidecarArgs(i, listen, p.behind, in)...)
		p.cmd.Env = append(p.cmd.Env, roleEnv+"="+roleSidecar)
	}
	ownGroup(p.cmd)
	p.cmd.WaitDelay = time.Second // a program that is being killed may hold the pipes for a moment
	p.cmd.Stdout = &lineWriter{line: func(line string) {
		if !p.told(line) {
			hear(line, false)
		}
	}}
	p.cmd.Stderr = &lineWriter{line: func(line string) {
		if at := sidecarReady.FindStringSubmatch(line); at != nil && i.interpreter != nil {
			p.listens(at[1], at[2])
		}
		hear(line, true)
	}}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // the state says how it ended
		if !programsDie && p.cmd.ProcessState.ExitCode() < 0 {
			p.killProgram() // of a sidecar that was killed
		}
		close(p.exited)
		if p.up.Load() && !p.expected.Load() {
			died(fmt.Errorf("%s ended: %s", i.name, p.cmd.ProcessState))
		}
	}()
	return p, nil
}

// freeAddress gives one that is free now. It is below the ports that systems choose themselves: those of sidecars
// and of calls, which come and go until the program listens. Where it is taken all the same, the program ends
// and is started again with another.
func freeAddress() (string, error) {
	for {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(10000)))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return "", err
		}
	}
}

// sidecarArgs is the command line of heddle for an instance.
func sidecarArgs(i *instance, listen, app string, in place) []string {
	_, port, _ := net.SplitHostPort(app)
	args := []string{"proxy", "--config", in.config, "--workload", i.service + "-" + i.version, "--namespace", "default",
		"--service-account", i.account(), "--labels", joined(workloadLabels(i.service, i.version), "=", ","),
		"--inbound", listen + "=" + app, "--outbound", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		// Nobody sends requests here who would have to hear of an end first, and stop waits 10 s.
		"--drain-delay", "0s", "--drain-timeout", "4s", "--", in.self}
	return append(args, i.interpreter.command(in.script(i.interpreter.language), port)...)
}

// environment is ours without what is meant for a heddle of the user's own.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "HEDDLE_") && !strings.HasPrefix(e, "BOOKINFO_") && !strings.HasPrefix(e, socketEnv+"=") {
			env = append(env, e)
		}
	}
	return env
}

// told takes the lines that are for the parent.
func (p *process) told(line string) bool {
	if pid, ok := strings.CutPrefix(line, sayProgram); ok {
		n, _ := strconv.Atoi(pid)
		p.program.Store(int64(n))
		return true
	}
	if where, ok := strings.CutPrefix(line, sayListening); ok {
		addr, admin, _ := strings.Cut(where, " ")
		p.listens(addr, admin)
		return true
	}
	if line == sayReady {
		p.serves.Do(func() { close(p.ready) })
	}
	return line == sayReady
}

func (p *process) listens(addr, admin string) {
	p.found.Do(func() {
		p.addr, p.admin = addr, admin
		close(p.listening)
	})
}

// await returns when the channel is closed, or with why it will not be.
func (p *process) await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-p.exited:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errEnded = errors.New("it ended")

// begin tells a service in Go that the configuration is complete and waits until it serves.
func (p *process) begin(ctx context.Context) error {
	if _, err := io.WriteString(p.stdin, "begin\n"); err != nil {
		return errEnded
	}
	return p.await(ctx, p.ready)
}

// end asks the process to finish.
func (p *process) end() {
	p.expected.Store(true)
	p.once.Do(func() { _ = p.stdin.Close() })
}

// wait returns when the process is gone; one that does not go is killed.
func (p *process) wait() {
	t := time.NewTimer(10 * time.Second)
	defer t.Stop()
	select {
	case <-p.exited:
	case <-t.C:
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// killProgram kills the program behind a sidecar.
func (p *process) killProgram() {
	if pid := p.program.Load(); pid != 0 {
		if q, err := os.FindProcess(int(pid)); err == nil {
			_ = q.Kill()
		}
	}
}
