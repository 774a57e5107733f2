//go:build !unix

package main

import (
	"os"
	"os/exec"
)

// canReplaceProcess is for the programs behind sidecars: without it they would not end with them.
const canReplaceProcess = false

func ownGroup(*exec.Cmd) {}

var pauseSignal, goOnSignal os.Signal // there are none
