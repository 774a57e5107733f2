package main

import (
	"io"
	"net"
	"sync"
)

// An l4 balances as kube-proxy does: connections, of which it knows no more, over the servers in turn.
type l4 struct {
	net.Listener
	servers []*server

	mu    sync.Mutex
	conns int // that came
	open  []net.Conn
}

func balanceConnections(servers []*server) (*l4, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &l4{Listener: l, servers: servers}
	go b.run()
	return b, nil
}

func (b *l4) run() {
	for {
		from, err := b.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		at := b.servers[b.conns%len(b.servers)]
		b.conns++
		b.mu.Unlock()
		to, err := net.Dial("tcp", at.addr)
		if err != nil {
			_ = from.Close()
			continue
		}
		b.mu.Lock()
		b.open = append(b.open, from, to)
		b.mu.Unlock()
		go pass(from, to)
		go pass(to, from)
	}
}

func pass(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

// Close ends it with all connections.
func (b *l4) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.open {
		_ = c.Close()
	}
	return b.Listener.Close()
}
