package transport

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// errTryLate ends the context of an attempt that has had its time.
var errTryLate = errors.New("the attempt's time is over")

// A tryTimer ends an attempt without an answer. Once there is one it only keeps the attempt's context, until the body's end.
type tryTimer struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	late   bool
}

// try gives the request of the attempt, under a context of its own where the attempt has a time.
func (o *outgoing) try(limit time.Duration) *http.Request {
	if limit <= 0 {
		return o.req
	}
	t := new(tryTimer)
	t.ctx, t.cancel = context.WithCancelCause(o.req.Context())
	t.timer = time.AfterFunc(limit, func() { t.cancel(errTryLate) })
	o.own = t
	return o.req.WithContext(t.ctx)
}

// inTime stops the attempt's time: what comes in later is no answer.
func (o *outgoing) inTime(resp *http.Response, err error) error {
	t := o.own
	if t == nil {
		return err
	}
	t.timer.Stop()
	if t.late = errors.Is(context.Cause(t.ctx), errTryLate); !t.late {
		return err
	}
	if err == nil {
		_ = resp.Body.Close()
		err = errTryLate
	}
	return err
}

// overran reports whether the attempt has had its time, and the call has not.
func (o *outgoing) overran() bool { return o.own != nil && o.own.late }

// tried ends what an attempt leaves behind that is given up.
func (o *outgoing) tried() {
	if o.own != nil {
		o.own.cancel(nil)
		o.own = nil
	}
}

// giveTry hands over what is to be called at the end of the answer's body, nil for nothing.
func (o *outgoing) giveTry() func() {
	t := o.own
	if t == nil {
		return nil
	}
	o.own = nil
	return func() { t.cancel(nil) }
}

// TryLate is the outcome of an attempt that has had its time, while the call has not.
func TryLate() call.Outcome { return call.Outcome{Reason: call.ReasonTimeout, PerTry: true} }
