//go:build !linux

package proxy

// move moves to the end of what src sends.
func (f *flow) move() error { return f.copy() }

// A waiter is what Linux needs, and so is a parking.
type waiter struct{}

type parking struct{}

func (*parking) forget(*flow) {}
func (*parking) close()       {}
