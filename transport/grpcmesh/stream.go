package grpcmesh

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
)

// stream makes the attempts to open a streaming RPC. Once it is open nothing is sent twice, but for what
// grpc-go repeats by itself because no endpoint has seen it, and the one message of a stream that has answered nothing yet
// (repeatable).
func (d *driver) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	r, err := d.begin(ctx, method, cc, opts)
	if errors.Is(err, errEmpty) && desc.ServerStreams {
		r.end(nil)
		return emptyStream{ctx, r.answer}, nil
	}
	if err != nil {
		r.end(err)
		return nil, err
	}
	r.unmirrored()
	s := &clientStream{rpc: r, once: !desc.ServerStreams}
	opts, s.hooks = r.withhold(opts)
	s.attempt = func(ctx context.Context, finished func(error)) (grpc.ClientStream, error) {
		opts := append(slices.Clip(opts), r.opts...)
		return open(ctx, desc, cc, r.method, append(opts, grpc.OnFinish(finished))...)
	}
	repeats := desc.ServerStreams && !desc.ClientStreams && r.repeats()
	s.committed.Store(!repeats)
	if err := s.start(); err != nil {
		s.conclude(err)
		return nil, err
	}
	if repeats {
		return repeating(s), nil
	}
	return s, nil
}

// A clientStream is a streaming RPC with its attempts.
type clientStream struct {
	grpc.ClientStream
	rpc     *rpc
	attempt func(context.Context, func(error)) (grpc.ClientStream, error)
	once    bool // its answer is one message
	hooks   []func(error)

	// committed says that the stream is open for good. Until then who receives finds out how it ended, for another
	// attempt may follow.
	committed atomic.Bool
	abandon   func() // closes the books of one that is not; nil until it is the caller's

	mu     sync.Mutex
	tries  int
	open   bool
	over   bool          // grpc-go says that the last try has ended
	told   error         // how
	ended  chan struct{} // closed then; nil where the stream is committed
	closed bool          // the books are
	final  error         // what they say
}

// start makes attempts until a stream is open. Its error is the RPC's.
func (s *clientStream) start() (err error) {
	r := s.rpc
	r.open = false
	for again := true; again; {
		ctx := context.Context(r)
		if !s.committed.Load() {
			ctx = r.beginsStream()
		}
		now, failed := s.attempt(ctx, s.opening())
		if failed == nil {
			s.ClientStream, r.open = now, true
			s.opened()
			return nil
		}
		again, err = r.settle(failed)
	}
	return err
}

// Header implements grpc.ClientStream: the answer's header as the rule edits it.
func (s *clientStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err != nil || md == nil {
		return md, err
	}
	if s.rpc.by != nil {
		md = withoutPeer(md.Copy())
	}
	if s.rpc.call.EditsResponse() {
		md = md.Copy()
		s.rpc.editHeader(md)
	}
	return md, nil
}

// Trailer implements grpc.ClientStream: of an answer that is all in one it is the header.
func (s *clientStream) Trailer() metadata.MD {
	md := s.ClientStream.Trailer()
	if s.rpc.by != nil {
		md = withoutPeer(md.Copy())
	}
	if whole(md) && s.rpc.call.EditsResponse() {
		md = md.Copy()
		s.rpc.editHeader(md)
	}
	return md
}

// RecvMsg implements grpc.ClientStream. It gives the mesh's errors for those of grpc-go.
func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == nil:
		s.got()
		if s.once {
			_ = s.end(nil)
		}
	case errors.Is(err, io.EOF):
		_ = s.end(nil)
	default:
		if final := s.end(err); final != nil {
			return final
		}
	}
	return err
}

// got counts a message that was received; with the first one the answer's header is there.
func (s *clientStream) got() {
	if s.rpc.metrics.received.Add(1) != 1 || s.rpc.by == nil {
		return
	}
	md, _ := s.ClientStream.Header()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.rpc.hear(md)
	}
}

// opening begins a try, and gives what is to hear of its end.
func (s *clientStream) opening() func(error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	s.open, s.over, s.told = false, false, nil
	if !s.committed.Load() {
		s.ended = make(chan struct{})
	}
	n := s.tries
	return func(told error) { s.finished(n, told) }
}

// opened notes that the stream is the caller's now, or for good.
func (s *clientStream) opened() {
	s.mu.Lock()
	s.open = true
	over, told := s.over, s.told
	s.mu.Unlock()
	if over && s.committed.Load() {
		_ = s.end(told)
	}
}

// finished hears from grpc-go that the n-th try has ended. It can be in any goroutine.
func (s *clientStream) finished(n int, told error) {
	s.mu.Lock()
	if n != s.tries {
		s.mu.Unlock()
		return
	}
	s.over, s.told = true, told
	open, abandon := s.open, s.abandon
	if s.ended != nil {
		close(s.ended)
		s.ended = nil
	}
	s.mu.Unlock()
	switch {
	case !open:
	case s.committed.Load():
		_ = s.end(told)
	case abandon != nil && s.rpc.cc.GetState() == connectivity.Shutdown: // nobody has to receive any more
		go abandon()
	}
}

// howEnded waits until grpc-go says that the last try, which is over, has ended, and how.
func (s *clientStream) howEnded() error {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if ended != nil {
		<-ended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told
}

// end closes the books, once, and returns when that is done, with the error that is in them.
func (s *clientStream) end(told error) error {
	return s.closeBooks(func() error {
		s.rpc.unpin(told)
		s.rpc.late(told)
		return s.rpc.ended(told)
	})
}

// conclude closes the books with the RPC's own error.
func (s *clientStream) conclude(final error) { _ = s.closeBooks(func() error { return final }) }

func (s *clientStream) closeBooks(with func() error) error {
	s.mu.Lock()
	first := !s.closed
	if first {
		s.closed = true
		s.final = with()
		s.rpc.end(s.final)
	}
	final := s.final
	s.mu.Unlock()
	if first {
		for _, hook := range s.hooks {
			hook(final)
		}
	}
	return final
}
