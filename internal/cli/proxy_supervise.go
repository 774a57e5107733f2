package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/heddlemesh/mesh/proxy"
)

// A supervisor keeps the sidecar and its child together until both have ended.
type supervisor struct {
	sidecar *proxy.Sidecar
	child   *child // nil for none
	signals <-chan os.Signal
	quit    <-chan struct{}
	delay   time.Duration // between saying that it ends and closing the listeners
	drain   time.Duration // how long requests may take from then on
	log     *slog.Logger
	reload  func()          // has files read anew, without waiting for that
	ceded   <-chan struct{} // closed when a successor has the listeners; nil for never
}

// leftover is how long the sidecar waits for its clients when the child, which they belonged to, has ended.
const leftover = time.Second

// run waits for the end and gives the exit code. The order of an end that is asked for is: /ready says so, while
// everything is still served; the inbound listeners close; inbound requests under way end, while the child still
// serves and calls; the child is told; when it has ended, outbound requests end. Being asked again cuts the
// waiting short.
func (v *supervisor) run(ctx context.Context) int {
	var exited <-chan int
	if v.child != nil {
		exited = v.child.exited
	}
	drained := make(chan error, 1)
	draining, hurry := cut(v.drain)
	hurry() // a clock that starts when it is asked for
	begun, told, code := false, false, exitOK
	begin := func(delay time.Duration) {
		if begun {
			return
		}
		begun = true
		draining, hurry = cut(delay + v.drain) //nolint:fatcontext // in place of the first, not inside it
		v.sidecar.Leaving()
		go func(ctx context.Context) { drained <- v.leave(ctx, delay) }(draining)
	}
	defer func() { hurry() }()
	var last os.Signal = syscall.SIGTERM
	var kill <-chan time.Time
	asked, done, quit, ceded := 0, ctx.Done(), v.quit, v.ceded
	for {
		select {
		case sig := <-v.signals:
			if !ends(sig) {
				if reloads(sig) {
					v.reload()
				}
				if !ignored(sig) {
					v.child.signal(sig)
				}
				continue
			}
			last = sig
			asked++
			switch begin(v.delayFor(sig)); {
			case told:
				v.child.signal(sig)
			case asked > 1:
				hurry()
			}
		case <-done:
			done = nil
			if by, ok := errors.AsType[signalled](context.Cause(ctx)); ok {
				last = by.Signal
			}
			begin(v.delayFor(last))
		case <-ceded:
			ceded = nil
			v.log.Info("a successor has the listeners: what is under way ends here")
			begin(0)
		case <-quit:
			quit = nil
			begin(v.delayFor(syscall.SIGTERM))
		case err := <-v.sidecar.Failed():
			v.log.Error("heddle proxy ends: a listener broke", "error", err)
			code = exitFailed
			begin(0)
		case err := <-drained:
			if err != nil {
				v.log.Warn("inbound requests were cut off", "error", err)
			}
			if v.child == nil {
				return max(code, v.shutDown(draining))
			}
			told = true
			v.child.signal(last)
			timer := time.NewTimer(v.drain)
			defer timer.Stop() //nolint:revive // this happens once
			kill = timer.C
		case <-kill:
			v.log.Warn("the command has not ended in time and is killed")
			v.child.signal(os.Kill)
		case childCode := <-exited:
			v.log.Info("the command has ended", "code", childCode)
			hurry() // whoever still waits for it waits in vain
			v.finish(leftover)
			return max(code, childCode)
		}
	}
}

// delayFor gives how long the listeners stay open after a signal. Who presses a key does not wait for a load
// balancer, and without an inbound listener there is nothing that one could send here.
func (v *supervisor) delayFor(s os.Signal) time.Duration {
	if s == os.Interrupt || !v.sidecar.Receives() {
		return 0
	}
	return v.delay
}

// leave drains the inbound side after a while.
func (v *supervisor) leave(ctx context.Context, delay time.Duration) error {
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return v.sidecar.Drain(ctx)
}

// ends reports signals that ask for the end.
func ends(s os.Signal) bool { return s == syscall.SIGTERM || s == os.Interrupt }

// finish shuts the sidecar down, within a time.
func (v *supervisor) finish(within time.Duration) {
	ctx, cancel := cut(within)
	defer cancel()
	v.shutDown(ctx)
}

// shutDown ends the sidecar and gives the exit code of a sidecar alone.
func (v *supervisor) shutDown(ctx context.Context) int {
	if err := v.sidecar.Shutdown(ctx); err != nil {
		v.log.Warn("requests were cut off", "error", err)
		return exitFailed
	}
	return exitOK
}
