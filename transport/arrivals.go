package transport

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// arrivals are a server's connections that it has been handed and that have not begun a request. A server that is shut
// down drops the first request of those, read or not, so that Shutdown waits for them a moment.
type arrivals struct {
	mu    sync.Mutex // guards fresh
	fresh map[net.Conn]*arrival
}

type arrival struct {
	all   *arrivals
	conn  net.Conn
	begun atomic.Bool
}

type arrivalKey struct{}

// arrivalTime is how long Shutdown waits for the header of a first request that has begun. It is net/http's own.
const arrivalTime = 5 * time.Second

// configure has the server tell of its connections, beside what its owner has it tell.
func (a *arrivals) configure(srv *http.Server) {
	a.fresh = make(map[net.Conn]*arrival)
	connContext, connState := srv.ConnContext, srv.ConnState
	srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, conn)
		}
		return context.WithValue(ctx, arrivalKey{}, a.add(conn))
	}
	srv.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			a.remove(conn)
		}
		if connState != nil {
			connState(conn, state)
		}
	}
}

func (a *arrivals) add(conn net.Conn) *arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		delete(a.fresh, over.NetConn()) // whose place it takes
	}
	one := &arrival{all: a, conn: conn}
	a.fresh[conn] = one
	return one
}

func (a *arrivals) remove(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.fresh, conn)
}

func (a *arrivals) none() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.fresh) == 0
}

// beginArrival notes a request of the connection that the context belongs to.
func beginArrival(ctx context.Context) {
	if one, ok := ctx.Value(arrivalKey{}).(*arrival); ok && !one.begun.Load() && one.begun.CompareAndSwap(false, true) {
		one.all.remove(one.conn)
	}
}

// settle waits until every connection has begun a request, at most for arrivalTime.
func (a *arrivals) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, arrivalTime)
	defer cancel()
	check := time.NewTicker(time.Millisecond)
	defer check.Stop()
	for !a.none() {
		select {
		case <-check.C:
		case <-ctx.Done():
			return
		}
	}
}
