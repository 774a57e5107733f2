package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
)

// An entrance says what a process on a machine of its own becomes. It is started as root, and what it becomes has no capability and
// gets none.
type entrance struct {
	Role  string            `json:",omitempty"` // of this program; "" for the command in the arguments
	User  int               `json:",omitempty"` // and group, 0 to stay root, which then is a name and no power
	Binds map[string]string `json:",omitempty"` // files by the paths at which it sees them
	Dies  int               `json:",omitempty"` // the process with which it dies, 0 for none
}

const entranceEnv = "BOOKINFO_ENTRANCE"

// command gives the command by which this program becomes another.
func (e entrance) command(self string, env []string, args ...string) *exec.Cmd {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // it has no such values
	}
	cmd := exec.Command(self, args...) //nolint:gosec // ourselves
	cmd.Env = append(env, roleEnv+"="+roleEnter, entranceEnv+"="+string(text))
	return cmd
}

func enterMain() int {
	runtime.LockOSThread() // all that follows is the thread's, and it is this one that will call exec
	var e entrance
	err := json.Unmarshal([]byte(os.Getenv(entranceEnv)), &e)
	if err == nil {
		err = e.enter()
	}
	if err == nil {
		_ = os.Unsetenv(entranceEnv)
		program, args := "/proc/self/exe", os.Args // wherever it lies: the user need not be able to go there
		if e.Role == "" {
			program, args = os.Args[1], os.Args[1:]
			_ = os.Unsetenv(roleEnv)
		} else {
			_ = os.Setenv(roleEnv, e.Role)
		}
		err = syscall.Exec(program, args, os.Environ()) //nolint:gosec // what the supervisor has found
	}
	fmt.Fprintln(os.Stderr, "bookinfo: enter a machine:", err)
	return 126
}

// enter gives up what the process must not have.
func (e *entrance) enter() error {
	if len(e.Binds) > 0 {
		if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("keep mounts to itself: %w", err)
		}
	}
	for at, file := range e.Binds {
		if err := syscall.Mount(file, at, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("show %s at %s: %w", file, at, err)
		}
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	if e.User != 0 {
		id := uintptr(e.User)
		for _, call := range [][4]uintptr{{syscall.SYS_SETGROUPS}, {syscall.SYS_SETRESGID, id, id, id}, {syscall.SYS_SETRESUID, id, id, id}} {
			if _, _, errno := syscall.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				return fmt.Errorf("become user %d: %w", e.User, errno)
			}
		}
	}
	if e.Dies != 0 && !dieWith(e.Dies) { // after the user: a new one is nobody's to kill
		return fmt.Errorf("process %s has ended", strconv.Itoa(e.Dies))
	}
	return nil
}

// dropCapabilities leaves nothing that a program could have after exec, whoever it runs as (capabilities(7)).
func dropCapabilities() error {
	const setNoNewPrivs, dropBounding, ambient, clearAll = 38, 24, 47, 4
	for n := uintptr(0); ; n++ {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, dropBounding, n, 0, 0, 0, 0)
		if errno == syscall.EINVAL && n > 0 {
			break // there are no more
		}
		if errno != 0 {
			return fmt.Errorf("drop capability %d: %w", n, errno)
		}
	}
	for _, call := range [][2]uintptr{{ambient, clearAll}, {setNoNewPrivs, 1}} {
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, call[0], call[1], 0, 0, 0, 0); errno != 0 {
			return fmt.Errorf("give up privileges: %w", errno)
		}
	}
	return nil
}
