package ca

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// attested takes connections of the owner's own processes only, and of one more user's where that is not 0, whatever the mode
// of the socket has become, and says which process calls.
type attested struct {
	net.Listener
	user uint32
}

// Accept implements net.Listener.
func (l attested) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who, err := peerOf(c)
		if err == nil && (int(who.Uid) == os.Geteuid() || who.Uid == 0 || who.Uid == l.user) {
			return process{c, processAddr(fmt.Sprintf("pid %d uid %d", who.Pid, who.Uid))}, nil
		}
		_ = c.Close()
	}
}

// peerOf asks the kernel who has connected (SO_PEERCRED).
func peerOf(c net.Conn) (who *syscall.Ucred, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("%T is no connection of a Unix socket", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	if failed := raw.Control(func(fd uintptr) {
		who, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); failed != nil {
		return nil, failed
	}
	return who, err
}

// A process is the connection of one.
type process struct {
	net.Conn
	addr processAddr
}

// RemoteAddr implements net.Conn.
func (p process) RemoteAddr() net.Addr { return p.addr }

type processAddr string

func (processAddr) Network() string  { return "unix" }
func (p processAddr) String() string { return string(p) }
