//go:build !linux

package main

import "os"

// programsDie: where a sidecar is killed, its program stays; the supervisor, which knows its number, ends it.
const programsDie = false

func dieWith(parent int) bool { return os.Getppid() == parent }
