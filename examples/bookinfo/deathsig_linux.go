package main

import (
	"os"
	"runtime"
	"syscall"
)

// programsDie: a program ends with its sidecar, however that ended.
const programsDie = true

// dieWith makes the kernel kill this process when its parent has ended, also after it has become another
// program. It reports whether the parent was still there.
func dieWith(parent int) bool {
	runtime.LockOSThread() // the setting is a thread's, and it is this one that will call exec
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	return errno == 0 && os.Getppid() == parent
}
