package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/transport/http1"
)

// TestHealthReadsWhatWaited: a request that has come before a process that stood still looks at it is read, though its time is over; once, and
// not where nothing has come.
func TestHealthReadsWhatWaited(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &cappedListener{Listener: tcp, most: 1}
	defer l.Close()
	client, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*cappedConn).Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	read := func() (string, error) {
		t.Helper()
		if err := conn.SetReadDeadline(past); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 8)
		n, err := conn.Read(b)
		return string(b[:n]), err
	}
	say := func(text string) {
		t.Helper()
		if _, err := io.WriteString(client, text); err != nil {
			t.Fatal(err)
		}
		for !http1.Waiting(raw) {
			continue
		}
	}
	if got, err := read(); got != "" || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing has come: %q, %v", got, err)
	}
	say("GET")
	if got, err := read(); got != "GET" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	say("more")
	if got, err := read(); got != "" || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a second time: %q, %v", got, err)
	}
}
