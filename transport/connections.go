package transport

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
)

// connectionCounts are what a cluster has counted of its connections (Envoy, cluster manager statistics, upstream_cx_…). Connections that
// clusters share are those of the one that had them first.
type connectionCounts struct {
	active                        atomic.Int64
	total, failed, late, overflow atomic.Uint64
	ended                         atomic.Uint64
}

// opened counts a connection that was made, or could not be.
func (c *connectionCounts) opened(err error) {
	c.total.Add(1)
	if err == nil {
		c.active.Add(1)
		return
	}
	c.failed.Add(1)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		c.late.Add(1)
	}
}

// closed counts the end of one that was made.
func (c *connectionCounts) closed() {
	c.active.Add(-1)
	c.ended.Add(1)
}

// Connected counts a connection of a driver's own that was made for the last attempt, by Engine.Open, or with err could not be. What it
// gives is to be called once at the connection's end.
func (c *Call) Connected(err error) (closed func()) {
	counts := &c.cluster.records.load.connections
	counts.opened(err)
	return counts.closed
}

// Counting gives the connection, or error, of a driver's own to an endpoint of the cluster of that name, counted until its end.
func (e *Engine) Counting(cluster string, conn net.Conn, err error) (net.Conn, error) {
	for _, c := range e.state.Load().clusters {
		if c.def.Name != cluster {
			continue
		}
		counts := &c.records.load.connections
		if counts.opened(err); err == nil {
			return &ongoing{Conn: conn, counts: counts}, nil
		}
		return nil, err
	}
	return conn, err
}

// A ongoing is counted until it is closed.
type ongoing struct {
	net.Conn
	counts *connectionCounts
	over   atomic.Bool
}

func (c *ongoing) Close() error {
	if !c.over.Swap(true) {
		c.counts.closed()
	}
	return c.Conn.Close()
}

// NetConn gives what is below.
func (c *ongoing) NetConn() net.Conn { return c.Conn }
