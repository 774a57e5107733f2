package grpcmesh

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/transport"
)

// repeats reports whether the rule may have more to do with a stream of one request than open it.
func (r *rpc) repeats() bool { return !r.direct && (r.call.Retries() || r.call.PerTry() > 0) }

// A repeatable is a stream that sends one message and answers with any number. Until the first of these, or the header where
// the program asks for that, has come, the rule's retries and perTryTimeout hold for it as for a unary RPC: the message is kept
// and sent again. From then on it is the one stream that it is.
type repeatable struct {
	*clientStream

	recv sync.Mutex // held by who receives before the stream is committed

	mu      sync.Mutex // guards what follows and clientStream.ClientStream
	sent    bool
	request any // grpc-go forbids to change it once sent
}

func repeating(s *clientStream) *repeatable {
	p := &repeatable{clientStream: s}
	s.mu.Lock()
	s.abandon = p.abandoned
	s.mu.Unlock()
	p.recv.Lock() // until it can be released
	defer p.recv.Unlock()
	s.rpc.release = context.AfterFunc(s.rpc.Context, p.abandoned)
	return p
}

// abandoned closes the books of an RPC that its caller has given up, or whose channel is closed, if nobody receives.
func (s *repeatable) abandoned() {
	s.recv.Lock()
	defer s.recv.Unlock()
	s.committed.Store(true)
	_ = s.end(s.howEnded())
}

func (s *repeatable) now() grpc.ClientStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ClientStream
}

// Context implements grpc.ClientStream.
func (s *repeatable) Context() context.Context { return s.now().Context() }

// CloseSend implements grpc.ClientStream.
func (s *repeatable) CloseSend() error { return s.now().CloseSend() }

// SendMsg implements grpc.ClientStream.
func (s *repeatable) SendMsg(m any) error {
	s.mu.Lock()
	now := s.ClientStream
	if !s.committed.Load() {
		s.sent, s.request = true, m
	}
	s.mu.Unlock()
	err := now.SendMsg(m)
	if err == nil {
		s.rpc.metrics.sent.Add(1)
	}
	if err != nil && s.recv.TryLock() { // it cannot be sent; who receives hears of it by itself
		s.committed.Store(true)
		_ = s.end(err)
		s.recv.Unlock()
	}
	return err
}

// RecvMsg implements grpc.ClientStream.
func (s *repeatable) RecvMsg(m any) error {
	if s.committed.Load() {
		return s.clientStream.RecvMsg(m)
	}
	s.recv.Lock()
	defer s.recv.Unlock()
	for !s.committed.Load() {
		err := s.ClientStream.RecvMsg(m)
		if done := err == nil || errors.Is(err, io.EOF); done && s.commit() {
			if err != nil {
				_ = s.end(nil)
			} else {
				s.got()
			}
			return err
		} else if done {
			err = s.cutOff()
		}
		if final := s.again(err); final != nil {
			return final
		}
	}
	return s.clientStream.RecvMsg(m)
}

// Header implements grpc.ClientStream. Whoever has seen the header has begun with the answer. A status alone has none and
// is for RecvMsg to tell, unless the rule repeats the RPC because of it.
func (s *repeatable) Header() (metadata.MD, error) {
	if s.committed.Load() {
		return s.clientStream.Header()
	}
	s.recv.Lock()
	defer s.recv.Unlock()
	for !s.committed.Load() {
		md, err := s.ClientStream.Header()
		if err != nil || md != nil {
			if s.commit() {
				break
			}
			err = s.cutOff()
		} else if err = s.howEnded(); err == nil {
			if s.commit() {
				_ = s.end(nil)
				break
			}
			err = s.cutOff()
		}
		if s.again(err) != nil {
			return nil, nil //nolint:nilnil // as grpc-go has it
		}
	}
	return s.clientStream.Header()
}

// Trailer implements grpc.ClientStream.
func (s *repeatable) Trailer() metadata.MD {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clientStream.Trailer()
}

// commit keeps the stream that there is. It reports false where the try has run out of its time.
func (s *repeatable) commit() bool {
	if !s.rpc.timer.keep() {
		return false
	}
	s.committed.Store(true)
	s.mu.Lock()
	s.request = nil
	s.mu.Unlock()
	s.opened()
	return true
}

// cutOff gives the error of a try that ran out of its time just when it was answered.
func (s *repeatable) cutOff() error {
	if err := s.howEnded(); s.rpc.Err() != nil {
		return err
	}
	s.rpc.last = transport.TryLate()
	return errTryLate
}

// again makes the RPC anew after an attempt that ended with err, if the rule says so. Otherwise it gives the RPC's error.
func (s *repeatable) again(err error) error {
	s.rpc.timer.stop()
	again, final := s.rpc.settle(err)
	if again {
		if final = s.reopen(); final == nil {
			return nil
		}
	}
	s.committed.Store(true)
	s.conclude(final)
	return final
}

func (s *repeatable) reopen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.start()
	if err == nil && s.sent {
		_ = s.ClientStream.SendMsg(s.request) // who receives hears why it cannot be
	}
	return err
}
