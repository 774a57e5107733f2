package capture

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// FuzzReadSockaddr: whatever the kernel says, an address of it or an error.
func FuzzReadSockaddr(f *testing.F) {
	f.Add(uint16(syscall.AF_INET), uint16(9080), uint32(0x0a4d0001), []byte{})
	f.Add(uint16(syscall.AF_INET6), uint16(9080), uint32(0), []byte{0xfd, 0x77, 15: 1})
	f.Add(uint16(syscall.AF_INET6), uint16(80), uint32(0), []byte{10: 0xff, 11: 0xff, 12: 10, 15: 1})
	f.Add(uint16(0), uint16(0), uint32(0), []byte{})
	f.Fuzz(func(t *testing.T, family, port uint16, v4 uint32, v6 []byte) {
		var b [4]byte
		a := syscall.RawSockaddrInet6{Family: family}
		binary.BigEndian.PutUint16(b[:], port)
		a.Port = binary.NativeEndian.Uint16(b[:])
		binary.BigEndian.PutUint32(b[:], v4)
		a.Flowinfo = binary.NativeEndian.Uint32(b[:])
		copy(a.Addr[:], v6)
		got, err := readSockaddr(&a)
		switch family {
		case syscall.AF_INET:
			if want := netip.AddrPortFrom(netip.AddrFrom4(b), port); got != want || err != nil {
				t.Errorf("%s, %v, want %s", got, err, want)
			}
		case syscall.AF_INET6:
			if want := netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), port); got != want || err != nil {
				t.Errorf("%s, %v, want %s", got, err, want)
			}
		default:
			if err == nil {
				t.Errorf("family %d: %s", family, got)
			}
		}
	})
}

// TestNotCaptured: of a connection that nothing has redirected there is no destination but the listener.
func TestNotCaptured(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if to, err := OriginalDestination(conn.(*net.TCPConn)); err == nil && to.String() != l.Addr().String() {
		t.Errorf("destination %s of a connection to %s", to, l.Addr())
	}
}
