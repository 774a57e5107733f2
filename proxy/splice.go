package proxy

import (
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/heddlemesh/mesh/transport/http1"
)

// A splicer moves the bytes of a body between two sockets without reading them: splice(2) where there is such a thing.
type splicer struct {
	limited io.LimitedReader
}

// Whose body it is (session.splices).
const (
	ofRequest = iota
	ofAnswer
)

type spliced int

const (
	spliceDone   spliced = iota // as far as could be; the end of the body shows in the bookkeeping
	spliceSource                // the side it comes from broke off
	spliceTarget                // the side it goes to did, or somebody else ended it
)

// move moves n bytes, -1 for all until the end, from src to dst and keeps the two messages' books.
func (s *splicer) move(watch *session, which int, room func() int64, from func(int64, bool) error, to func(int64) error, dst, src net.Conn, n int64) spliced {
	target, ok := dst.(*net.TCPConn)
	source, plain := src.(*net.TCPConn)
	if !ok || !plain {
		return spliceDone
	}
	if most := room(); most >= 0 && most < n {
		n = most
	}
	s.limited.R, s.limited.N = source, n
	var moved int64
	var err error
	for again := true; again; {
		var m int64
		watch.splicing(which, src)
		m, err = target.ReadFrom(&s.limited)
		moved += m
		again = watch.spliced(which, m) && timedOut(err)
	}
	s.limited.R = nil
	_ = to(moved)
	if err != nil {
		if !brokeOff(source, err) {
			return spliceTarget
		}
		_ = from(moved, false)
		return spliceSource
	}
	if from(moved, moved < n) != nil {
		return spliceSource
	}
	return spliceDone
}

// brokeOff reports whether it was the source that a splice has failed of: the error does not say.
func brokeOff(source *net.TCPConn, err error) bool {
	if timedOut(err) || errors.Is(err, syscall.EPIPE) {
		return false
	}
	raw, failed := source.SyscallConn()
	return failed != nil || http1.Departed(raw, false)
}
