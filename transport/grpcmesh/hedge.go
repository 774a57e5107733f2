package grpcmesh

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/transport"
)

// A hedge is a unary RPC whose attempts go on beside each other: one that has had the rule's perTryTimeout is not ended when the next is
// made. The first that an endpoint answers well, or in a way that nothing is repeated for, is the RPC's; the others are given up. It
// belongs to the goroutine that makes the RPC; each leg has its own.
type hedge struct {
	*rpc
	invoke  grpc.UnaryInvoker
	message []byte
	opts    []grpc.CallOption // of every leg
	over    chan *leg
	running int
	newest  *leg
	legs    []*leg
}

// A leg is one attempt, an RPC to grpc-go. What it came to is read when it has been sent on hedge.over.
type leg struct {
	*rpc
	at      atomic.Pointer[transport.Attempt] // where it is
	noted   bool
	cancel  func()
	reply   []byte
	header  metadata.MD
	trailer metadata.MD
	peer    peer.Peer
	err     error
}

// hedged makes an RPC's attempts so; ok is false where that cannot be, and nothing has been done.
func (r *rpc) hedged(req, reply any, invoke grpc.UnaryInvoker, opts []grpc.CallOption, after time.Duration) (ok bool, err error) {
	codec := codecOf(opts)
	message, err := codec.marshal(req)
	if err != nil {
		return false, err // the ordinary way says why
	}
	h := &hedge{rpc: r, invoke: invoke, message: message, over: make(chan *leg)}
	for _, o := range opts {
		switch o.(type) {
		case grpc.HeaderCallOption, grpc.TrailerCallOption, grpc.PeerCallOption:
		default:
			h.opts = append(h.opts, o)
		}
	}
	h.opts = append(append(h.opts, r.opts...), grpc.ForceCodecV2(encoded{codec.name}))
	won, err := h.run(after)
	if len(h.legs) == 1 && errors.Is(err, errGone) {
		return false, err // nothing was sent
	}
	if err == nil {
		err = codec.unmarshal(won.reply, reply)
	}
	won.tell(opts)
	return true, err
}

// run makes legs until one is the RPC's, and gives that with the RPC's error.
func (h *hedge) run(after time.Duration) (won *leg, err error) {
	defer h.giveUp()
	timer := time.NewTimer(after)
	defer timer.Stop()
	h.launch()
	slow := true // what the timer is for: else it is for the next leg
	for {
		select {
		case <-timer.C:
			if !slow {
				h.launch()
				slow = true
				timer.Reset(after)
				continue
			}
			wait, again := h.slow()
			if slow = !again; again {
				timer.Reset(wait)
			}
		case l := <-h.over:
			h.running--
			h.note(l)
			wait, again, final := h.ended(l)
			switch {
			case again:
				slow = false
				timer.Reset(wait)
			case final || h.running == 0 && slow:
				return l, h.rpc.ended(l.err)
			}
		}
	}
}

// launch begins another leg.
func (h *hedge) launch() {
	r := h.rpc
	ctx, cancel := context.WithCancel(r.Context)
	l := &leg{cancel: cancel}
	l.rpc = &rpc{Context: ctx, plain: ctx, caller: r.caller, driver: r.driver, cc: r.cc, to: r.to, named: r.named, method: r.method,
		call: r.call.Leg(), once: true, fixed: true, waits: r.waits, root: r, own: r.own, read: r.read,
		metrics: measured{attempts: r.metrics.attempts}}
	l.picked = func(a transport.Attempt) { l.at.Store(&a) }
	l.rpc.mark()
	h.newest, h.legs = l, append(h.legs, l)
	h.running++
	opts := append(slices.Clip(h.opts), grpc.Header(&l.header), grpc.Trailer(&l.trailer), grpc.Peer(&l.peer))
	go func() {
		l.err = h.invoke(l.rpc, l.method, h.message, &l.reply, l.cc, opts...)
		l.unpin(l.err)
		l.late(l.err)
		l.hear(l.header)
		h.over <- l
	}()
}

// slow asks whether another leg is made because the newest has had its time.
func (h *hedge) slow() (wait time.Duration, again bool) {
	a := h.newest.at.Load()
	if a == nil {
		return 0, false // it has got nowhere yet
	}
	a.Answered(transport.TryLate())
	h.note(h.newest)
	return h.call.Next(transport.TryLate(), true)
}

// note counts a leg's attempt.
func (h *hedge) note(l *leg) {
	if a := l.at.Load(); a != nil && !l.noted {
		l.noted = true
		h.call.Made(*a)
	}
}

// ended says what follows a leg's end: another one, the RPC's end, or neither while others go on.
func (h *hedge) ended(l *leg) (wait time.Duration, again, final bool) {
	r := h.rpc
	r.last, r.cause, r.rejected, r.told = l.last, l.cause, l.rejected, l.told
	if a := l.at.Load(); a != nil {
		h.call.Latest(*a)
	}
	if l.err == nil || r.last.Status != 0 && !r.last.Failed() || r.gaveUp(l.err) != nil {
		return 0, false, true
	}
	wait, again = r.retry(l.err)
	return wait, again, false
}

// giveUp ends the legs that go on and waits for their ends.
func (h *hedge) giveUp() {
	for _, l := range h.legs {
		l.cancel()
	}
	for ; h.running > 0; h.running-- {
		h.note(<-h.over)
	}
}

// tell gives the program what it has asked for of the answer.
func (l *leg) tell(opts []grpc.CallOption) {
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = l.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = l.trailer
		case grpc.PeerCallOption:
			*o.PeerAddr = l.peer
		}
	}
}

// unmarshal makes a message of an answer's bytes.
func (c codec) unmarshal(data []byte, v any) error {
	var err error
	switch {
	case c.own != nil:
		err = c.own.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, v)
	case c.old != nil:
		err = c.old.Unmarshal(data, v)
	}
	if err != nil {
		return grpcstatus.Error(codes.Internal, "grpcmesh: unmarshal the answer: "+err.Error())
	}
	return nil
}
