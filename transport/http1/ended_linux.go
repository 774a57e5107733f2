package http1

import (
	"encoding/binary"
	"syscall"
)

// closeWait is the state of a TCP connection of which the other side has sent its end (RFC 9293 §3.3.2), in Linux's numbers.
const closeWait = 8

// ended reports whether a socket has been sent the end of the connection, whatever is to be read before that.
func ended(fd int) bool {
	info, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_INFO) // of which the first byte is the state
	if err != nil {
		return false
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(info))
	return b[0] == closeWait
}
