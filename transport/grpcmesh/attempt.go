package grpcmesh

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// settle is what follows an attempt, whose error as grpc-go tells it is err: it waits where there is to be
// another one, else it gives the error that the caller gets.
func (r *rpc) settle(err error) (again bool, final error) {
	wait, again := r.retry(err)
	if !again {
		return false, r.ended(err)
	}
	if err := r.pause(wait); err != nil {
		return false, err
	}
	r.last, r.cause = call.Outcome{}, nil
	r.mark()
	return true, nil
}

// retry asks the engine whether an attempt is followed by another one.
func (r *rpc) retry(err error) (wait time.Duration, again bool) {
	r.unpin(err)
	r.late(err)
	if r.anew {
		r.anew = false
		r.edit()
		return 0, true
	}
	if err == nil || r.direct || r.rejected != nil || r.told != nil || r.gaveUp(err) != nil || r.unanswerable() {
		return 0, false
	}
	r.heedMark()
	return r.call.Next(r.last, true)
}

// unanswerable reports whether the last attempt came to nothing for a reason that no other attempt changes.
func (r *rpc) unanswerable() bool { return r.last.Neutral() && !r.last.OwnFault }

// ended gives the error of an RPC that is over. It changes nothing.
func (r *rpc) ended(err error) error {
	switch {
	case err == nil:
		return nil
	case r.rejected != nil:
		return wrap(r.rejected)
	case r.told != nil:
		return r.told
	case r.direct:
		if r.cause != nil {
			return wrap(r.call.FailDirect(r.cause))
		}
		return err
	case r.last.Status == 0 && r.gaveUp(err) != nil:
		return r.canceled(r.gaveUp(err), err)
	case r.last.Reason != call.ReasonNone && !r.unanswerable():
		if r.cause != nil {
			err = r.cause
		}
		return wrap(r.call.Fail(r.last, err))
	}
	return err // the endpoint's own answer; the channel is closed; the message cannot be encoded; …
}

// gaveUp tells whether the caller gave up or ran out of time. An endpoint that keeps the caller's deadline too
// can say so before the caller's own timer does.
func (r *rpc) gaveUp(told error) error {
	if err := r.Err(); err != nil {
		return err
	}
	if grpcstatus.Code(told) == codes.DeadlineExceeded {
		if end, ok := r.Deadline(); ok && !time.Now().Before(end) {
			return context.DeadlineExceeded
		}
	}
	return nil
}

// expired reports whether the rule's time-out has ended the RPC, and not its caller: it has passed, as an endpoint that
// keeps it too can say before our own timer does, and the caller's deadline has not.
func (r *rpc) expired() bool {
	if r.root != nil {
		return r.root.expired()
	}
	if r.stop == nil || r.caller.Err() != nil {
		return false
	}
	now := time.Now()
	if end, ok := r.caller.Deadline(); ok && !now.Before(end) {
		return false
	}
	end, _ := r.Deadline()
	return r.Err() != nil || !now.Before(end)
}

// canceled makes the error of an RPC whose context has ended, with what grpc-go says about the waiting.
func (r *rpc) canceled(why, told error) error {
	reason := call.ReasonCanceled
	if r.expired() {
		reason = call.ReasonTimeout
	}
	e := r.call.Fail(call.Outcome{Reason: reason}, why)
	if text := messageOf(told); text != why.Error() {
		e.Detail = text
	}
	if r.cause != nil {
		e.Detail += "; last failure to connect: " + r.cause.Error()
	}
	return wrap(e)
}

// unpin gives up waiting for the connection of an endpoint that was picked.
func (r *rpc) unpin(told error) {
	if r.pinned {
		r.pinned = false
		o := call.Outcome{Reason: call.ReasonCanceled}
		switch {
		case r.overran(told):
			o = transport.TryLate()
			r.last = o
		case r.expired():
			o.Reason = call.ReasonTimeout
		}
		r.attempt.Answered(o)
		r.tried(told, r.attempt.Finish())
	}
}

// pause waits before another attempt.
func (r *rpc) pause(wait time.Duration) error {
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Done():
		}
	}
	if err := r.Err(); err != nil {
		return r.canceled(err, err)
	}
	return nil
}
