package transport

import (
	"time"

	"github.com/heddlemesh/mesh/telemetry"
)

// MayHedge reports whether the rule asks for it at all.
func (c *Call) MayHedge() bool { return c.route != nil && c.route.Retry != nil && c.route.Retry.Hedge }

// Hedges gives how long an attempt goes on alone before another one is made beside it, 0 where none is: the rule
// asks for it, has retries left and a perTryTimeout, and the request may be sent twice (resilience.Retry.Hedge). From then on
// Next is asked with TryLate when that time has passed, and with the outcome of each attempt that has ended while others go on.
func (c *Call) Hedges() time.Duration {
	if !c.MayHedge() || !c.Retries() || !c.repeatable() {
		return 0
	}
	wait := c.PerTry()
	c.hedged = wait > 0
	return wait
}

// Leg gives a call for one attempt beside others of c, on what c was decided on. It keeps no books: neither Next nor End is for
// it. It may be used by another goroutine than c.
func (c *Call) Leg() Call {
	leg := *c
	leg.info, leg.held, leg.holds = nil, nil, 0
	leg.trace = telemetry.Trace{} // all legs go with the one attempt's span
	leg.tried = append(leg.tried[:0:0], c.tried...)
	return leg
}

// Made notes an attempt that a leg has made, once, before Next is asked about it.
func (c *Call) Made(a Attempt) {
	c.attempts++
	c.Latest(a)
	c.tracePick(a.Endpoint)
	if c.info != nil && len(c.info.Tried) < maxTold {
		c.info.Tried = append(c.info.Tried, a.Endpoint.Def.Address.String())
	}
}

// Latest has what the call tells next be about an attempt that was noted by Made.
func (c *Call) Latest(a Attempt) { c.last = a.Endpoint }
