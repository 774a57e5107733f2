package grpcmesh

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// stream makes the attempts to open a streaming RPC. Once it is open nothing is sent twice, but for what
// grpc-go repeats by itself because no endpoint has seen it.
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
	opts = append(slices.Clip(opts), grpc.OnFinish(s.finished))
	for again := true; again; {
		s.opening()
		if s.ClientStream, err = open(r, desc, cc, r.method, append(slices.Clip(opts), r.opts...)...); err == nil {
			r.open = true
			s.opened()
			return s, nil
		}
		again, err = r.settle(err)
	}
	r.end(err)
	for _, hook := range s.hooks {
		hook(err)
	}
	return nil, err
}

// A clientStream is an open streaming RPC.
type clientStream struct {
	grpc.ClientStream
	rpc   *rpc
	once  bool // its answer is one message
	hooks []func(error)

	mu     sync.Mutex
	open   bool
	over   bool  // grpc-go says that it has ended
	told   error // how
	closed bool  // the books are
	final  error // what they say
}

// Header implements grpc.ClientStream: the answer's header as the rule edits it.
func (s *clientStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err != nil || md == nil || !s.rpc.call.EditsResponse() {
		return md, err
	}
	md = md.Copy()
	s.rpc.editHeader(md)
	return md, nil
}

// Trailer implements grpc.ClientStream: of an answer that is all in one it is the header.
func (s *clientStream) Trailer() metadata.MD {
	md := s.ClientStream.Trailer()
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

// opening forgets the end of an earlier try.
func (s *clientStream) opening() {
	s.mu.Lock()
	s.over, s.told = false, nil
	s.mu.Unlock()
}

// opened notes that the stream is the caller's now.
func (s *clientStream) opened() {
	s.mu.Lock()
	s.open = true
	over, told := s.over, s.told
	s.mu.Unlock()
	if over {
		_ = s.end(told)
	}
}

// finished hears from grpc-go that a stream, or a try to open it, has ended. It can be in any goroutine.
func (s *clientStream) finished(told error) {
	s.mu.Lock()
	s.over, s.told = true, told
	open := s.open
	s.mu.Unlock()
	if open {
		_ = s.end(told)
	}
}

// end closes the books, once, and returns when that is done, with the error that is in them.
func (s *clientStream) end(told error) error {
	s.mu.Lock()
	first := !s.closed
	if first {
		s.closed = true
		s.rpc.unpin(told)
		s.rpc.late(told)
		s.final = s.rpc.ended(told)
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
