package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/heddlemesh/mesh/internal/cli"
)

// roleEnv says what a process of this program is; without it the process is the supervisor.
const (
	roleEnv     = "BOOKINFO_ROLE"
	roleService = "service" // one of the services in Go
	roleSidecar = "sidecar" // heddle, by its arguments
	roleProgram = "program" // behind heddle: becomes the command in its arguments
	roleHeddle  = "heddle"  // heddle, by its arguments, as it is
	roleEnter   = "enter"   // becomes another process, on a machine of -transparent
)

const sidecarEnv = "BOOKINFO_SIDECAR" // the process id of a program's sidecar

func isChild() bool { return os.Getenv(roleEnv) != "" }

func childMain() int {
	switch os.Getenv(roleEnv) {
	case roleSidecar:
		return sidecarMain()
	case roleProgram:
		return programMain()
	case roleHeddle:
		return cli.Main(os.Args[1:], strings.NewReader(""), os.Stdout, os.Stderr)
	case roleEnter:
		return enterMain()
	default:
		return serviceMain()
	}
}

// sidecarMain is the command heddle, with two differences: it ends when its standard input does, which the
// supervisor holds, and the command behind it is this program again, so that it ends too.
func sidecarMain() int {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		fmt.Fprintln(os.Stderr, "bookinfo:", err)
		return 1
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = self.Signal(syscall.SIGTERM)
	}()
	_ = os.Setenv(roleEnv, roleProgram)
	_ = os.Setenv(sidecarEnv, strconv.Itoa(self.Pid))
	return cli.Main(os.Args[1:], strings.NewReader(""), os.Stdout, os.Stderr)
}

// programMain tells its process id, which the supervisor has no other way to know, and becomes the program.
func programMain() int {
	parent, _ := strconv.Atoi(os.Getenv(sidecarEnv))
	if !dieWith(parent) {
		return 1
	}
	_ = os.Unsetenv(roleEnv)
	_ = os.Unsetenv(sidecarEnv)
	fmt.Printf("%s%d\n", sayProgram, os.Getpid())
	err := syscall.Exec(os.Args[1], os.Args[1:], os.Environ()) //nolint:gosec // what the supervisor has found
	fmt.Fprintf(os.Stderr, "run %s: %v\n", os.Args[1], err)
	return 126
}
