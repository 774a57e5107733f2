package grpcmesh

import (
	"errors"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
)

// errWait parks the RPC until there is something new.
var errWait = balancer.ErrNoSubConnAvailable

// pick finds the connection for the attempt under way. The engine chooses the endpoint; while its connection
// is not there yet the RPC waits for it, as it would for a dial over net/http. What may happen meanwhile:
//
//   - it cannot be connected to: the attempt has failed, UF;
//   - the endpoint goes, or the configuration under which it was chosen: nothing was sent, so it is chosen
//     again, if need be by the configuration that is live now.
func (r *rpc) pick(conns *connSet) (balancer.PickResult, error) {
	r.late(errRefused) // grpc-go picks again by itself for nothing else
	if r.once && r.last.Reason == call.ReasonRefused {
		return balancer.PickResult{}, errRefused // whether it is sent again, the engine says
	}
	for range maxChoices {
		if r.direct {
			return r.pickOutside(conns.outside)
		}
		if !r.pinned {
			if err := r.choose(conns); err != nil {
				return balancer.PickResult{}, err
			}
			if !r.pinned {
				continue // decided anew
			}
		}
		c := conns.byID[r.attempt.Endpoint.ID()]
		if c == nil {
			// The connections lag behind the engine, or have been taken down by what is live now.
			r.call.Drop(r.attempt)
			r.pinned = false
			if !r.call.Stale() {
				return balancer.PickResult{}, errWait
			}
			if err := r.renew(); err != nil {
				return balancer.PickResult{}, err
			}
			continue
		}
		if to := c.room(); to != nil {
			return r.over(to), nil
		}
		s := c.status.Load()
		switch {
		case s.ready:
			to, wait := c.more()
			switch {
			case to != nil:
				return r.over(to), nil
			case wait:
				return balancer.PickResult{}, errWait
			}
			c.begin()
			return r.over(c), nil // waits for a stream
		case s.sick && !r.waits || s.err != nil && s.failures != r.since:
			r.failed(s.err)
			if !r.waits {
				return balancer.PickResult{}, grpcstatus.Error(codes.Unavailable, s.err.Error())
			}
		default:
			c.want()
			return balancer.PickResult{}, errWait
		}
	}
	return balancer.PickResult{}, errWait
}

// over gives the connection, on which the attempt is counted.
func (r *rpc) over(c *conn) balancer.PickResult {
	r.pinned, r.conn, r.by = false, c, c.proof.Load()
	result := balancer.PickResult{SubConn: c.sub, Done: r.doneFunc()}
	if r.by != nil {
		result.Metadata = r.driver.saying
	}
	return result
}

// maxChoices bounds the choices of one pick; further ones wait for something new.
const maxChoices = 8

// choose lets the engine choose an endpoint, of those that can be connected to for all we know. Where there
// is none, an RPC that waits for ready waits; any other takes one that could not be, and sees whether it
// still cannot.
func (r *rpc) choose(conns *connSet) error {
	if r.call.Unresolved() != nil { // after renew
		return errWait
	}
	a, err := r.call.Pick(conns)
	if call.ReasonOf(err) == call.ReasonCircuitOpen { // no news of connections closes it
		return r.reject(err)
	}
	if err != nil && r.waits {
		if r.call.Stale() {
			return r.renew()
		}
		return errWait
	}
	if err != nil {
		a, err = r.call.Pick(nil)
	}
	if err != nil {
		return r.reject(err)
	}
	r.attempt, r.pinned, r.since = a, true, 0
	if r.picked != nil {
		r.picked(a)
	}
	if c := conns.byID[a.Endpoint.ID()]; c != nil {
		s := c.status.Load()
		r.since = s.failures
		if s.err != nil && !s.dialing && !s.sick {
			c.of.hurry(r.cc)
		}
	}
	return nil
}

// renew decides again, on the live configuration. Where the rule changes the RPC, or has changed it, grpc-go has to be
// given another one.
func (r *rpc) renew() error {
	if r.fixed {
		return errGone
	}
	if err := r.take(r.call.Renew(&r.asked)); err != nil {
		return r.reject(err)
	}
	if !r.open && (r.edited || r.call.EditsRequest()) {
		r.anew = true
		return errAnew
	}
	return nil
}

// errGone ends a copy or a leg whose cluster is gone.
var errGone = grpcstatus.Error(codes.Unavailable, "the configuration it was made by is gone")

var errAnew = grpcstatus.Error(codes.Unavailable, "the configuration has changed")

// reject ends the RPC with the mesh's own answer, or the rule's. grpc-go would change some codes on the way (gRFC A54), and
// keep an RPC waiting that waits for ready: it gets another error, and the interceptor puts this one in place.
func (r *rpc) reject(err error) error {
	if !errors.As(err, &r.rejected) {
		r.told = err
	}
	return grpcstatus.Error(codes.Unavailable, err.Error())
}

// failed ends an attempt whose endpoint could not be connected to.
func (r *rpc) failed(cause error) {
	r.pinned = false
	r.last, r.cause = call.NotConnected(cause), cause
	r.attempt.Answered(r.last)
	r.tried(grpcstatus.Error(codes.Unavailable, ""), r.attempt.Finish())
}

// pickOutside gives the connection to the host itself. It fails as grpc-go's own balancers do: at once while
// the last try to connect failed.
func (r *rpc) pickOutside(c *conn) (balancer.PickResult, error) {
	if c == nil {
		return balancer.PickResult{}, errWait
	}
	switch s := c.status.Load(); {
	case s.ready:
		return balancer.PickResult{SubConn: c.sub}, nil
	case s.err != nil && !r.waits:
		r.cause = s.err
		return balancer.PickResult{}, grpcstatus.Error(codes.Unavailable, s.err.Error())
	}
	c.want()
	return balancer.PickResult{}, errWait
}
