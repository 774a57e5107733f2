package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/heddlemesh/mesh/internal/capture"
)

// unaware: what is captured knows nothing of it, the sidecars have no privilege, and nobody gets past them by their own ports.
func unaware(_ context.Context, c *check) (string, error) {
	apart := make(map[string]string)
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return "", err
	}
	apart[ours] = "this program"
	for _, i := range c.app.instances {
		if !i.captured() {
			continue
		}
		p := i.process()
		if err := judgeProgram(i, int(p.program.Load()), apart); err != nil {
			return "", fmt.Errorf("%s: %w", i.name, err)
		}
		if err := judgePrivileges(p.cmd.Process.Pid, strconv.Itoa(capture.Owner)); err != nil {
			return "", fmt.Errorf("sidecar of %s: %w", i.name, err)
		}
		for _, port := range []int{capture.OutboundPort, capture.InboundPort} {
			if err := refuses(net.JoinHostPort(i.machine.addr.String(), strconv.Itoa(port))); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%d programs, each in a network namespace of its own, with no proxy variable and no capability; their sidecars are user %d, "+
		"have no capability and can get none; connections straight to their ports are refused", len(apart)-1, capture.Owner), nil
}

// judgeProgram wants a program that was told nothing, alone with its sidecar.
func judgeProgram(i *instance, pid int, apart map[string]string) error {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return err
	}
	for e := range strings.SplitSeq(string(env), "\x00") {
		name, _, _ := strings.Cut(strings.ToLower(e), "=")
		if strings.Contains(name, "proxy") || strings.Contains(name, "heddle") || name == "java_tool_options" {
			return fmt.Errorf("expected nothing of a proxy in its environment, found %s", e)
		}
	}
	where, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	beside, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", i.process().cmd.Process.Pid))
	if err != nil {
		return err
	}
	if apart[where] != "" || where != beside {
		return fmt.Errorf("expected a network namespace of its own, with its sidecar in it, found %s, of %s, and %s", where, apart[where], beside)
	}
	apart[where] = i.name
	return judgePrivileges(pid, "0")
}

// judgePrivileges wants a process of a user without any capability, and without a way to one (proc_pid_status(5)).
func judgePrivileges(pid int, user string) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	want := map[string]string{"Uid": user, "Gid": user, "CapInh": "0", "CapPrm": "0", "CapEff": "0", "CapBnd": "0", "CapAmb": "0", "NoNewPrivs": "1"}
	for line := range strings.Lines(string(text)) {
		name, values, _ := strings.Cut(line, ":")
		for _, v := range strings.Fields(values) {
			if want[name] != "" && strings.TrimLeft(v, "0") != strings.TrimLeft(want[name], "0") {
				return fmt.Errorf("expected %s %s, found %s", name, want[name], strings.TrimSpace(values))
			}
		}
	}
	return nil
}

// refuses wants nobody to be heard at an address.
func refuses(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, scenarioTimeout)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: ratings\r\n\r\n")
	if said, err := io.ReadAll(conn); err == nil || len(said) > 0 {
		return fmt.Errorf("expected a connection straight to %s to be reset, found %q, %w", addr, said, err)
	}
	return nil
}
