package capture

import (
	"net"
	"strings"
	"testing"
)

// TestListening: a port is found while somebody listens, by either family, and connections to it count for nothing.
func TestListening(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("%s: %v", address, err)
			continue
		}
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if is, err := Listening(1, port); !is || err != nil {
			t.Errorf("%s: %v, %v", address, is, err)
		}
		_ = conn.Close()
		_ = l.Close()
	}
}

const procNetTCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1337        0 1 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0100007F:3A9E 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1337        0 3 1 0 20 4 30 10 -1
`

// TestListens reads what the kernel writes: who is connected does not listen.
func TestListens(t *testing.T) {
	t.Parallel()
	for port, want := range map[uint16]bool{15001: true, 22: true, 15006: false, 0: false} {
		if is, err := listens(strings.NewReader(procNetTCP), []uint16{port}); is != want || err != nil {
			t.Errorf("%d: %v, %v", port, is, err)
		}
	}
}

// FuzzListens: a port is found only where a line says so.
func FuzzListens(f *testing.F) {
	f.Add(procNetTCP, uint16(15001))
	f.Add("\n 0: :3A99 0 0A\n", uint16(15001))
	f.Fuzz(func(t *testing.T, text string, port uint16) {
		if is, _ := listens(strings.NewReader(text), []uint16{port}); is && !strings.Contains(text, "0A") {
			t.Errorf("%q", text)
		}
	})
}
