package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport"
)

// Peers that have agreed on transport.PeerExchange by ALPN tell each other which workload they are in before anything else is said, as Istio's
// sidecars do (telemetry.AppendPeerExchange). Each says it at once, so that nobody waits whose program does not speak first. What does not come in
// time is not in the metrics; it is taken off when it comes.

// exchangeTime is how long the other side may take before its workload is given up.
const exchangeTime = time.Second

// An exchanged is a connection on which that is under way. Close waits for its two goroutines.
type exchanged struct {
	*tls.Conn
	wrote, read chan struct{} // closed when what follows stands
	unsaid      error         // why it could not be said
	said        string        // telemetry.PeerMetadata, "" for nothing
	rest        []byte        // what has come and is no such thing
	unheard     error         // why nothing came
}

// tellEachOther says who we are, nothing where says is nil, and hears who the other side is.
func tellEachOther(c *tls.Conn, says *transport.Says) *exchanged {
	x := &exchanged{Conn: c, wrote: make(chan struct{}), read: make(chan struct{})}
	metadata, id := "", ""
	if says != nil {
		metadata, id = says.Metadata, says.ID
	}
	go func() {
		defer close(x.wrote)
		_, x.unsaid = c.Write(telemetry.AppendPeerExchange(nil, metadata, id))
	}()
	go func() {
		defer close(x.read)
		x.said, x.rest, x.unheard = hearPeer(c)
	}()
	return x
}

// hearPeer reads what the other side says, to the byte. rest is what has come and is no such thing.
func hearPeer(r io.Reader) (said string, rest []byte, err error) {
	head := make([]byte, telemetry.PeerExchangeHead)
	n, err := io.ReadFull(r, head)
	size, ok := telemetry.PeerExchangeSize(head)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), err == nil && !ok:
		return "", head[:n], nil
	case err != nil:
		return "", nil, err
	}
	message := make([]byte, size)
	if _, err = io.ReadFull(r, message); errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", nil, err
	}
	return telemetry.PeerExchanged(message), nil, nil
}

// await gives what the other side has said in time, "" for nothing, and the connection to go on with.
func (x *exchanged) await(ctx context.Context) (said string, nc net.Conn) {
	late := time.NewTimer(exchangeTime)
	defer late.Stop()
	for _, done := range [...]chan struct{}{x.read, x.wrote} {
		select {
		case <-done:
		case <-late.C:
			return "", x
		case <-ctx.Done():
			return "", x
		}
	}
	if x.unsaid != nil || x.unheard != nil || len(x.rest) > 0 {
		return x.said, x
	}
	return x.said, x.Conn
}

// NetConn gives what the connection is a wrapping of.
func (x *exchanged) NetConn() net.Conn { return x.Conn }

// Read implements net.Conn.
func (x *exchanged) Read(b []byte) (int, error) {
	<-x.read
	if n := copy(b, x.rest); n > 0 {
		x.rest = x.rest[n:]
		return n, nil
	}
	if x.unheard != nil {
		return 0, x.unheard
	}
	return x.Conn.Read(b)
}

// Write implements net.Conn.
func (x *exchanged) Write(b []byte) (int, error) {
	if <-x.wrote; x.unsaid != nil {
		return 0, x.unsaid
	}
	return x.Conn.Write(b)
}

// CloseWrite ends this direction.
func (x *exchanged) CloseWrite() error {
	<-x.wrote
	return x.Conn.CloseWrite()
}

// Close implements net.Conn.
func (x *exchanged) Close() error {
	err := x.Conn.Close()
	<-x.wrote
	<-x.read
	return err
}

// told gives the connection to an endpoint as it is to be used, and has the call know who that is.
func told(ctx context.Context, c *transport.Call, e *transport.Engine, up net.Conn) net.Conn {
	secured, ok := up.(*tls.Conn)
	if !ok || secured.ConnectionState().NegotiatedProtocol != transport.PeerExchange {
		return up
	}
	by, proved := e.Peer(secured)
	if !proved { // the mesh's TLS has no other
		return up
	}
	said, up := tellEachOther(secured, e.Says()).await(ctx)
	c.Hear(by.Certificate, said)
	return up
}

// tell has the caller of a connection that is not HTTP say who he is, and takes that off it.
func (s *session) tell() {
	if s.tls == nil || s.tls.ConnectionState().NegotiatedProtocol != transport.PeerExchange {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !s.attendCall(cancel) {
		return
	}
	var says *transport.Says // nobody is told who has not proved to be of the mesh
	if s.caller != nil {
		says = s.wire.engine.Says()
	}
	x := tellEachOther(s.tls, says)
	said, nc := x.await(ctx)
	s.attendCall(nil)
	if s.said = said; nc != net.Conn(s.tls) {
		s.take(nc)
		s.tls = x.Conn
	}
}
