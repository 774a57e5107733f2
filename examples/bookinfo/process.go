package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// childEnv carries which service a process is; without it the process is the supervisor.
const childEnv = "BOOKINFO_SERVICE"

// A child is one service process as its parent sees it. The parent holds the child's standard input: when
// that ends, by stop or because the parent died, the child ends too.
type child struct {
	instance
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	addr   string

	ending atomic.Bool
	exited chan struct{}
	once   sync.Once
}

// spawn starts a process and reads from it on which address it listens.
func spawn(self string, i instance, listen, dir string, died chan<- error) (*child, error) {
	c := &child{instance: i, exited: make(chan struct{})}
	c.cmd = exec.Command(self)
	c.cmd.Env = append(os.Environ(), childEnv+"="+i.service, "SERVICE_VERSION="+i.version,
		"BOOKINFO_LISTEN="+listen, "BOOKINFO_CONFIG="+dir)
	c.cmd.Env = append(c.cmd.Env, i.env...)
	c.cmd.Stderr = os.Stderr
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.stdout = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", i.service, err)
	}
	line, err := c.stdout.ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if err != nil || !ok {
		c.ending.Store(true)
		_ = c.stdin.Close()
		_ = c.cmd.Wait()
		return nil, fmt.Errorf("start %s %s: it did not come to listen on %s", i.service, i.version, listen)
	}
	c.addr = addr
	go func() {
		_ = c.cmd.Wait() // the state says how it ended
		close(c.exited)
		if !c.ending.Load() {
			died <- fmt.Errorf("%s %s ended: %s", i.service, i.version, c.cmd.ProcessState)
		}
	}()
	return c, nil
}

// begin tells the process that the configuration is complete and waits until it serves.
func (c *child) begin(ctx context.Context) error {
	if _, err := io.WriteString(c.stdin, "begin\n"); err != nil {
		return fmt.Errorf("%s %s: %w", c.service, c.version, err)
	}
	ready := make(chan error, 1)
	go func() { // ends with the child's output at the latest
		line, err := c.stdout.ReadString('\n')
		if err == nil && strings.TrimSpace(line) != "ready" {
			err = errors.New("unexpected output " + line)
		}
		ready <- err
	}()
	select {
	case err := <-ready:
		if err != nil {
			return fmt.Errorf("%s %s did not become ready: %w", c.service, c.version, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end asks the process to finish.
func (c *child) end() {
	c.ending.Store(true)
	c.once.Do(func() { _ = c.stdin.Close() })
}

// wait returns when the process is gone; one that does not go is killed.
func (c *child) wait() {
	t := time.NewTimer(10 * time.Second)
	defer t.Stop()
	select {
	case <-c.exited:
	case <-t.C:
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}

// path is a page of the service worth opening.
func (c *child) path() string {
	switch c.service {
	case "productpage":
		return "/productpage"
	default:
		return "/" + c.service + "/0"
	}
}
