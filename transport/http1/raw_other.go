//go:build !unix

package http1

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
)

// rawConn is for systems whose sockets are not read as files are: every connection goes the general way.
type rawConn struct{ conn syscall.RawConn }

func (*rawConn) init(net.Conn, *atomic.Int64) {}

func (*rawConn) await(int) (*buffer, int, error) { return nil, 0, errors.ErrUnsupported }

func (*rawConn) ask(*Writer, []byte) (*buffer, int, error, error) {
	return nil, 0, errors.ErrUnsupported, nil
}

func (*rawConn) quiet() bool { return true }

// rawWriter is for the same connections, none.
type rawWriter struct{ conn syscall.RawConn }

func (*rawWriter) write([]byte) (int, error) { return 0, errors.ErrUnsupported }
