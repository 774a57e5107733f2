package conformance

import (
	"encoding/binary"
	"io"
	"net"
)

// refuseStreams is an HTTP/2 upstream that refuses every stream before it looks at it (RFC 9113 §8.7), which
// net/http's server has no way to say. It ends with the connection.
func refuseStreams(c net.Conn) {
	const (
		headers, reset, settings = 0x1, 0x3, 0x4
		ack                      = 0x1
		refusedStream            = 0x7
		preface                  = len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	)
	// The connection has no buffer: whoever writes must not be the one that reads.
	frames := make(chan []byte, 8)
	go func() {
		for f := range frames {
			_, _ = c.Write(f) // the reader notices when the connection ends
		}
	}()
	defer func() {
		_ = c.Close()
		close(frames)
	}()
	send := func(kind, flags byte, stream uint32, payload ...byte) {
		f := binary.BigEndian.AppendUint32([]byte{0, 0, byte(len(payload)), kind, flags}, stream)
		frames <- append(f, payload...)
	}
	if _, err := io.CopyN(io.Discard, c, int64(preface)); err != nil {
		return
	}
	send(settings, 0, 0)
	for {
		var head [9]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		if _, err := io.CopyN(io.Discard, c, length); err != nil {
			return
		}
		switch kind, flags := head[3], head[4]; {
		case kind == headers:
			send(reset, 0, binary.BigEndian.Uint32(head[5:]), 0, 0, 0, refusedStream)
		case kind == settings && flags&ack == 0:
			send(settings, ack, 0)
		}
	}
}
