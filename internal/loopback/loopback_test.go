package loopback_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/internal/loopback"
)

func TestDead(t *testing.T) {
	t.Parallel()
	address := loopback.Dead(t)
	if c, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connected to %v, %v", c, err)
	}
	if _, err := net.Listen("tcp", address); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("somebody may listen there: %v", err)
	}
}

func TestFree(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 100 {
		address := loopback.Free(t)
		if seen[address] {
			t.Fatalf("%s was given twice", address)
		}
		seen[address] = true
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close() // it stays ours
	}
}
