package drain

import (
	"math"
	"net"
	"os"
	"syscall"
)

// Queued takes a connection that stands in the kernel's queue, without waiting for one; nil where there is
// none. It is for the moment before the listener closes, which resets what is in the queue.
func Queued(l net.Listener) net.Conn {
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

// refuseSYN is a classic BPF program over the TCP header: what has SYN without ACK is dropped, all else passes.
var refuseSYN = []syscall.SockFilter{
	{Code: syscall.BPF_LD | syscall.BPF_B | syscall.BPF_ABS, K: 13}, // the flags
	{Code: syscall.BPF_ALU | syscall.BPF_AND | syscall.BPF_K, K: flagSYN | flagACK},
	{Code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K, K: flagSYN, Jf: 1},
	{Code: syscall.BPF_RET | syscall.BPF_K, K: 0},
	{Code: syscall.BPF_RET | syscall.BPF_K, K: math.MaxUint32},
}

// The flags of RFC 9293 §3.1.
const (
	flagSYN = 0x02
	flagACK = 0x10
)

// refuse drops what would begin a new connection, where the kernel lets us.
func refuse(l net.Listener) {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.AttachLsf(int(fd), refuseSYN) //nolint:staticcheck // x/net/bpf assembles programs and attaches none to listeners
		})
	}
}
