//go:build !linux

package proxy

// move moves to the end of what src sends.
func (f *flow) move() error { return f.copy() }

// A waiter is what Linux needs.
type waiter struct{}
