package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A machine is a network namespace: a loopback interface, addresses and rules of its own. The kernel takes it away with
// everything in it when its thread and its processes have ended, however they did. Its methods are safe for concurrent use.
type machine struct {
	addr netip.Addr
	work chan func()

	mu    sync.Mutex // guards what follows
	doors map[string]net.Listener
	ended bool
}

// newMachine makes one without a link to anything, and gives the thread by which it can be named.
func newMachine(addr netip.Addr) (m *machine, thread int, err error) {
	m = &machine{addr: addr, work: make(chan func()), doors: make(map[string]net.Listener)}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		thread = syscall.Gettid()
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
		return nil, 0, fmt.Errorf("make a network namespace: %w", err)
	}
	return m, thread, nil
}

// do calls f in the machine's thread: the sockets that f opens and the processes that it starts are there.
func (m *machine) do(f func()) {
	done := make(chan struct{})
	m.work <- func() { defer close(done); f() }
	<-done
}

// start starts a process on the machine, nil being ours.
func (m *machine) start(cmd *exec.Cmd) (err error) {
	if m == nil {
		return cmd.Start()
	}
	m.do(func() { err = cmd.Start() })
	return err
}

// ip has the system's tool carry out lines, on the machine or, for nil, on ours.
func (m *machine) ip(lines ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	err := m.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("ip: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// door gives an address of ours at which one of the machine's loopback interface is reached. That of no machine is its own.
func (m *machine) door(to string) (string, error) {
	if m == nil {
		return to, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.doors[to]; l != nil {
		return l.Addr().String(), nil
	}
	l, err := m.forward("127.0.0.1:0", to)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), nil
}

// forward opens a listener of ours whose connections go on to an address, as it is seen from the machine.
func (m *machine) forward(listen, to string) (net.Listener, error) {
	if m.ended {
		return nil, net.ErrClosed
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	m.doors[to] = l
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			go m.pass(c, to)
		}
	}()
	return l, nil
}

// open lets an address that is seen from the machine be reached by one of ours.
func (m *machine) open(listen, to string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.forward(listen, to)
	if err != nil {
		return "", err
	}
	return reachable(l.Addr().String()), nil
}

// pass carries what is said on a connection to an address of the machine, and back.
func (m *machine) pass(c net.Conn, to string) {
	defer c.Close()
	other, err := m.dial(to)
	if err != nil {
		return
	}
	defer other.Close()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, other}, {other, c}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			_ = way[1].(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // both are TCP
		})
	}
	both.Wait()
}

// dial connects from the machine.
func (m *machine) dial(to string) (conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return nil, net.ErrClosed
	}
	m.do(func() { conn, err = new(net.Dialer).DialContext(ctx, "tcp", to) })
	return conn, err
}

// end lets the machine go. Processes that are still there keep it.
func (m *machine) end() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	for _, l := range m.doors {
		err = errors.Join(err, l.Close())
	}
	if !m.ended {
		close(m.work)
	}
	m.ended = true
	return err
}
