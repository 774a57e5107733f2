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
	cmd     *exec.Cmd
	app     *exec.Cmd // the program behind a sidecar that captures, which is ours to start; otherwise nil
	machine *machine  // nil for ours
	stdin   io.WriteCloser
	once    sync.Once // for stdin

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
	if err := p.prepare(i, listen, in, by); err != nil {
		return nil, err
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
		if at := sidecarListens.FindStringSubmatch(line); at != nil && i.captured() {
			p.listens(listen, at[1])
		}
		hear(line, true)
	}}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := i.machine.start(p.cmd); err != nil {
		return nil, err
	}
	if i.captured() {
		if err := p.accompany(i, in, hear); err != nil {
			p.hangUp()
			return nil, errors.Join(err, p.cmd.Wait())
		}
	}
	go func() {
		if p.app != nil {
			p.together()
		} else {
			_ = p.cmd.Wait() // the state says how it ended
		}
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

// prepare makes the command of a service in Go, or of the sidecar of another.
func (p *process) prepare(i *instance, listen string, in place, by *issuer) (err error) {
	p.machine = i.machine
	if i.captured() {
		if p.behind, err = i.machine.door("127.0.0.1:" + servicePort); err == nil {
			p.cmd, err = capturedSidecar(i, in, by)
		}
		return err
	}
	p.cmd = exec.Command(in.self) //nolint:gosec // ourselves
	p.cmd.Env = append(append(environment(), socketEnv+"="+by.endpoint(i)), instanceEnv(i)...)
	if i.interpreter == nil {
		p.cmd.Env = append(p.cmd.Env, roleEnv+"="+roleService, "BOOKINFO_SERVICE="+i.service, "BOOKINFO_LISTEN="+listen, "BOOKINFO_CONFIG="+in.config)
		return nil
	}
	if p.behind, err = freeAddress(); err == nil {
		p.cmd.Args = append(p.cmd.Args, sidecarArgs(i, listen, p.behind, in)...)
		p.cmd.Env = append(p.cmd.Env, roleEnv+"="+roleSidecar)
	}
	return err
}

// instanceEnv tells a program which one it is.
func instanceEnv(i *instance) []string {
	return append([]string{"HOSTNAME=" + i.name, "SERVICE_VERSION=" + i.version,
		"OTEL_BSP_SCHEDULE_DELAY=500"}, // spans are to be seen soon, by collectors that rules name
		i.env...)
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
	args := append(meshArgs(i, in), "--inbound", listen+"="+app, "--outbound", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--", in.self)
	return append(args, i.interpreter.command(in.script(i.interpreter.language), port)...)
}

// meshArgs is what heddle is told of an instance, however it gets its connections.
func meshArgs(i *instance, in place) []string {
	return []string{"proxy", "--config", in.config, "--workload", i.service + "-" + i.version, "--namespace", "default",
		"--service-account", i.account(), "--labels", joined(workloadLabels(i.service, i.version), "=", ","),
		// Nobody sends requests here who would have to hear of an end first, and stop waits 10 s.
		"--drain-delay", "0s", "--drain-timeout", "4s"}
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
		p.addr = addr
		door, err := p.machine.door(admin)
		if err != nil {
			return // and nobody hears where it listens, in time
		}
		p.admin = door
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
	p.hangUp()
}

// hangUp ends the process's standard input, by which it notices that it is to end.
func (p *process) hangUp() { p.once.Do(func() { _ = p.stdin.Close() }) }

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
