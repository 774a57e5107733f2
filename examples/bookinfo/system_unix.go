//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

const canReplaceProcess = true

// ownGroup keeps Ctrl-C, which reaches the whole group of a terminal, from a child: its parent decides when it ends.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// What makes a process hang, and go on.
var pauseSignal, goOnSignal os.Signal = syscall.SIGSTOP, syscall.SIGCONT
