// Package memory joins those who dial to those who listen without a kernel between them: its connections are net.Pipe's, so that
// they stand in the time of a testing/synctest bubble.
package memory

import (
	"context"
	"net"
	"sync"
)

// An Addr is where something listens in memory.
type Addr string

// Network implements net.Addr, as does String.
func (Addr) Network() string  { return "memory" }
func (a Addr) String() string { return string(a) }

// A Listener hands out what is dialled or given to it. Its methods may be called by several goroutines.
type Listener struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Listen makes a listener that says of itself that it is at addr.
func Listen(addr net.Addr) *Listener {
	return &Listener{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial makes a connection and waits until it is accepted. It fails with net.ErrClosed where the listener is closed, and with
// the context's error. The network and the address are not looked at.
func (l *Listener) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	if err := l.Give(ctx, server); err != nil {
		return nil, err
	}
	return client, nil
}

// Give waits until c is accepted. It fails as Dial does; c is the caller's then.
func (l *Listener) Give(ctx context.Context, c net.Conn) error {
	select {
	case l.conns <- c:
		return nil
	case <-l.done:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Accept implements net.Listener, as do Close and Addr. It fails with net.ErrClosed once the listener is closed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends the listener; another call does nothing.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr gives what Listen was told.
func (l *Listener) Addr() net.Addr { return l.addr }
