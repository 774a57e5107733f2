package proxy

import (
	"context"
	"net"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/transport/http1"
)

// An upstreamKey is all that connections to endpoints must agree in to be shared. They are all of HTTP/1.1.
type upstreamKey struct {
	address discovery.Address
}

// An upstreams keeps HTTP/1.1 connections to endpoints, and opens them. It is safe for concurrent use.
type upstreams struct {
	pool   *http1.Pool[upstreamKey]
	limits *http1.Limits
	dial   func(ctx context.Context, to discovery.Address, timeout time.Duration) (net.Conn, error)
}

func newUpstreams(idle time.Duration, dial func(context.Context, discovery.Address, time.Duration) (net.Conn, error)) *upstreams {
	limits := wireLimits()
	limits.Head, limits.Fields = 127<<10, maxFields // an answer's is the program's to judge, within reason
	return &upstreams{dial: dial, limits: limits,
		pool: http1.NewPool[upstreamKey](http1.PoolLimits{IdleTimeout: idle, PerKey: 256, Total: 4096})}
}

// open connects. The error is the dialer's.
func (u *upstreams) open(ctx context.Context, key upstreamKey, timeout time.Duration) (*http1.Conn, error) {
	nc, err := u.dial(ctx, key.address, timeout)
	if err != nil {
		return nil, err
	}
	return http1.NewConn(nc, u.limits), nil
}

// forget closes the idle connections to an address.
func (u *upstreams) forget(address discovery.Address) {
	u.pool.CloseIdle(upstreamKey{address: address})
}
