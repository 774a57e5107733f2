//go:build race

package grpcmesh_test

const raceEnabled = true
