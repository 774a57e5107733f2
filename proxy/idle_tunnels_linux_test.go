package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/proxy"
)

// A bare is a socket of the system's that Go's runtime knows nothing of, so that what a proxy holds is all that its process does.
type bare int

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// says sends a line and waits for it at the other end.
func (b bare) says(t *testing.T, line string, other bare) {
	t.Helper()
	if _, err := syscall.Write(int(b), []byte(line)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(line))
	for n := 0; n < len(got); {
		m, err := syscall.Read(int(other), got[n:])
		if m <= 0 && !errors.Is(err, syscall.EINTR) {
			t.Fatal(m, err)
		}
		n += max(m, 0)
	}
	if string(got) != line {
		t.Fatalf("%q came, want %q", got, line)
	}
}

// TestIdleTunnels: what a connection of TCP that moves nothing takes of memory, both sides together: the heap and the stacks. One that was
// busy takes no more some time later, and goes on. The test is not parallel: it counts all of the process.
func TestIdleTunnels(t *testing.T) {
	const idle, most = 400, 4 << 10
	var open []int
	defer func() {
		for _, fd := range open {
			_ = syscall.Close(fd)
		}
	}()
	socket := func() int {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		check(t, err)
		open = append(open, fd)
		return fd
	}
	server := socket()
	check(t, syscall.Bind(server, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(t, syscall.Listen(server, 16))
	bound, err := syscall.Getsockname(server)
	check(t, err)
	r := tunnelling(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.(*syscall.SockaddrInet4).Port)))
	to := syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: r.sidecar.TCPAddrs()[0].(*net.TCPAddr).Port}
	begin := func(exchanges int) (client, accepted bare) {
		client = bare(socket())
		check(t, syscall.Connect(int(client), &to))
		fd, _, err := syscall.Accept4(server, syscall.SOCK_CLOEXEC)
		check(t, err)
		open = append(open, fd)
		for range exchanges {
			client.says(t, "ask\n", bare(fd))
			bare(fd).says(t, "answer\n", client)
		}
		return client, bare(fd)
	}
	begin(1)
	quiet := runtime.NumGoroutine() + 4
	parked := func() {
		for runtime.NumGoroutine() > quiet && t.Context().Err() == nil {
			runtime.Gosched()
		}
	}
	held := func() int64 {
		parked()
		for range 3 { // the stacks of goroutines that are gone go at a collection
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	for range 50 {
		begin(3)
	}
	heap := held()
	for range idle {
		begin(3)
	}
	each := (held() - heap) / idle
	t.Logf("%d bytes each", each)
	if each > most {
		t.Errorf("an idle connection takes %d bytes, at most %d", each, most)
	}
	var busy [8][2]bare
	for i := range busy {
		busy[i][0], busy[i][1] = begin(100)
	}
	parked()
	for _, b := range busy {
		b[0].says(t, "more\n", b[1])
		b[1].says(t, "and more\n", b[0])
	}
}

// tunnelling starts a sidecar that passes connections on to an address.
func tunnelling(t *testing.T, to string) *rig {
	t.Helper()
	return start(t, entry("db.example.com", "", "TCP", 3306, to), func(c *proxy.Config) {
		c.OutboundTCP = []proxy.OutboundTCP{{Listen: "127.0.0.1:0", Host: "db.example.com", Port: 3306}}
	})
}

// TestParkedTunnels: a connection of which nothing has moved for a while ends as any other does: whoever ends it.
func TestParkedTunnels(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]func(t *testing.T, r *rig, client, server *net.TCPConn){
		"the client has sent all": func(t *testing.T, _ *rig, client, server *net.TCPConn) {
			check(t, client.CloseWrite())
			if b, err := io.ReadAll(server); len(b) > 0 || err != nil {
				t.Errorf("the server read %q, %v", b, err)
			}
			_, err := server.Write([]byte("goodbye"))
			check(t, err)
			check(t, server.Close())
			if b, err := io.ReadAll(client); string(b) != "goodbye" || err != nil {
				t.Errorf("the client read %q, %v", b, err)
			}
		},
		"the server has gone": func(t *testing.T, _ *rig, client, server *net.TCPConn) {
			check(t, server.Close())
			if b, err := io.ReadAll(client); len(b) > 0 || err != nil {
				t.Errorf("the client read %q, %v", b, err)
			}
		},
		"the server resets": func(t *testing.T, _ *rig, client, server *net.TCPConn) {
			check(t, server.SetLinger(0))
			check(t, server.Close())
			if _, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client read %v", err)
			}
		},
		"the client resets": func(t *testing.T, _ *rig, client, server *net.TCPConn) {
			check(t, client.SetLinger(0))
			check(t, client.Close())
			if _, err := io.ReadAll(server); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the server read %v", err)
			}
		},
		"the sidecar ends": func(t *testing.T, r *rig, client, server *net.TCPConn) {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_ = r.sidecar.Shutdown(ended)
			for _, c := range []net.Conn{client, server} {
				if b, _ := io.ReadAll(c); len(b) > 0 { // an end or a reset
					t.Errorf("%q came", b)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			check(t, err)
			t.Cleanup(func() { _ = l.Close() })
			r := tunnelling(t, l.Addr().String())
			for _, exchanges := range []int{0, 1, 30} {
				if name == "the sidecar ends" && exchanges != 1 {
					continue
				}
				client := reached(t, r.sidecar.TCPAddrs()[0]).(*net.TCPConn)
				accepted, err := l.Accept()
				check(t, err)
				t.Cleanup(func() { _ = accepted.Close() })
				server := accepted.(*net.TCPConn)
				from, at := bufio.NewReader(server), bufio.NewReader(client)
				for range exchanges {
					_, err := client.Write([]byte("ask\n"))
					check(t, err)
					_, err = from.ReadString('\n')
					check(t, err)
					_, err = server.Write([]byte("answer\n"))
					check(t, err)
					_, err = at.ReadString('\n')
					check(t, err)
				}
				row(t, r, client, server)
			}
		})
	}
}
