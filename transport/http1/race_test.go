//go:build race

package http1

// raceEnabled: the race detector makes sync.Pool drop what it is given at random, so nothing is said of allocations.
const raceEnabled = true
