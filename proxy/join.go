package proxy

import (
	"bytes"

	"github.com/heddlemesh/mesh/internal/socket"
	"github.com/heddlemesh/mesh/transport/http1"
)

// join copies between client and endpoint, both ways, after the endpoint has switched protocols. What either has sent
// too early goes first. Neither side's buffers are held on to. The route's time-out reaches to the 101 and no further, as
// Envoy's does.
func (x *exchange) join() {
	up, client := x.up, x.s.conn
	x.own()
	x.s.finish()
	x.s.tunnelled.Store(true)
	more := x.s.attend(up.NetConn()) // for those who cut it off
	x.w.Release()
	x.uw.Release()
	if !more {
		_ = socket.Beneath(x.s.nc).Close()
		return
	}
	early := taken(client)
	first := taken(up)
	toClient, toServer := x.f.tunnels.webSocket(x.s.nc, up.NetConn())
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&flow{dst: toServer, src: client.NetConn(), first: early}).stream()
	}()
	(&flow{dst: toClient, src: up.NetConn(), first: first}).stream()
	<-done
}

// taken takes what was read beyond the last message, and lets the buffers go.
func taken(c *http1.Conn) []byte {
	b := bytes.Clone(c.Buffered())
	c.Discard(len(b))
	c.Release()
	return b
}
