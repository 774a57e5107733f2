package transport

import "github.com/heddlemesh/mesh/call"

// What a driver needs that keeps its connections by snapshot: between the decision and the moment an
// endpoint's connection is there, the decision may have become history.

// Stale reports whether the configuration that the call was decided on is not the live one any more.
func (c *Call) Stale() bool { return c.engine.state.Load() != c.state || c.engine.closed.Load() }

// Renew decides again, on the live configuration, about a call that has nothing on its way. What the call
// has counted stays: attempts, retries, the endpoints tried; no fault is injected and no rate limit
// counts it a second time. q is the
// request that Begin was given.
func (c *Call) Renew(q *call.Request) Step {
	c.route, c.match, c.dest, c.cluster, c.known, c.origin = nil, nil, nil, nil, nil, ""
	c.service = ""
	c.hashed, c.cookie = false, ""
	return c.decide(q)
}

// Drop takes a pick back that nothing was sent on: it was no attempt. It takes the place of Answered and
// Finish, and must follow its Pick before the next one.
func (c *Call) Drop(a Attempt) {
	c.attempts--
	if c.info != nil && len(c.info.Tried) > 0 {
		c.info.Tried = c.info.Tried[:len(c.info.Tried)-1]
	}
	a.leave()
	if a.Endpoint.Withdraw() {
		c.engine.release(a.Endpoint)
	}
}
