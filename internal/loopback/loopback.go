// Package loopback has addresses for tests. A port that a listener has let go is anybody's a moment later: a test of another
// package may listen there and answer in the place of nobody.
package loopback

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// Dead gives an address that refuses connections until the test is over: its port is a client's meanwhile.
func Dead(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.LocalAddr().String()
}

// Where Free looks: below the ports that systems choose themselves.
const firstFree, endFree = 16000, 20000

// Free gives an address to listen on that is nobody else's until the test is over: systems do not choose its port by themselves, and who asks
// here for another is kept from it by a socket of UDP.
func Free(t testing.TB) string {
	t.Helper()
	for {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstFree+rand.IntN(endFree-firstFree)))
		claim, err := net.ListenPacket("udp", address)
		if err != nil {
			if errors.Is(err, syscall.EADDRINUSE) {
				continue
			}
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = claim.Close() })
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue // a program's of this machine
		}
		_ = l.Close()
		return address
	}
}
