package proxy

import (
	"net"
	"os"
	"syscall"
)

// queued takes a connection that stands in the kernel's queue, without waiting for one; nil where there is
// none. It is for the moment before the listener closes, which resets what is in the queue.
func queued(l net.Listener) net.Conn {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	accepted := -1
	err = raw.Control(func(fd uintptr) {
		for {
			var err error
			if accepted, _, err = syscall.Accept4(int(fd), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC); err == nil {
				return
			}
			accepted = -1
			if err != syscall.EINTR && err != syscall.ECONNABORTED {
				return
			}
		}
	})
	if err != nil || accepted < 0 {
		return nil
	}
	f := os.NewFile(uintptr(accepted), "tcp")
	defer f.Close() // FileConn duplicates it
	conn, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	return conn
}
