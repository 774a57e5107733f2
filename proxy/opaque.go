package proxy

import (
	"cmp"
	"context"
	"net"
	"strconv"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/proxyproto"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/transport"
)

// made is captured of a connection that the program makes. What the mesh knows by its address, and ports on which nobody speaks
// HTTP or TLS, need no first byte: there the server may speak first. Elsewhere that says whether it is HTTP, or which host a
// ClientHello names. What is neither goes to the service of other protocols that has the port (as with Istio, where one without
// an address takes all of it), else where it meant to go.
func (s *session) made() bool {
	automatic := s.wire.captor.names.hostOf(s.to.Addr())
	host := cmp.Or(automatic, s.to.Addr().String())
	var v *routing.VirtualHost
	var on routing.Port
	if t := s.wire.table(); t != nil {
		v, _ = t.Lookup(host, s.to.Port())
		on = t.On(s.to.Port())
		if v != nil {
			on = routing.Port{HTTP: v.HTTP, TLS: v.Named()}
		}
	}
	if on.Other != nil && automatic == "" {
		host = on.Other.Host
	}
	var name string
	if on.HTTP || on.TLS {
		var said spoken
		var ok bool
		said, name, ok = s.first(on.TLS)
		switch {
		case !ok:
			return false
		case on.HTTP && said == speaksHTTP1:
			return true
		case on.HTTP && said == speaksHTTP2:
			s.handOn()
			return false
		case name != "" && v == nil:
			host = s.named(name, host, s.to.Port())
		}
	}
	s.call(host, s.to.Port(), name)
	return false
}

// first hears what the client says first, and the host that it names where that is TLS and names counts. ok is false where it says nothing.
func (s *session) first(names bool) (said spoken, name string, ok bool) {
	b, err := s.hear(transport.DefaultReadHeaderTimeout, make([]byte, maxSniffed), func(b []byte) bool { return sniff(b) != undecided })
	if err != nil || len(b) == 0 {
		return undecided, "", false
	}
	if said = sniff(b); said != speaksTLS || !names {
		return said, "", true
	}
	b, err = s.hear(transport.DefaultReadHeaderTimeout, make([]byte, maxHello), func(b []byte) bool {
		_, done := serverName(b)
		return done
	})
	name, _ = serverName(b)
	return said, name, err == nil
}

// named gives the host of the mesh on the port that a name in a ClientHello stands for, otherwise for none.
func (s *session) named(name, otherwise string, port uint16) string {
	t := s.wire.table()
	if t == nil {
		return otherwise
	}
	own, _ := t.Lookup(name, port)
	switch v := t.LookupName(name, port); v {
	case nil:
		return otherwise
	case own: // which may be a wildcard
		return name
	default:
		return v.Host
	}
}

// call joins a connection that is not HTTP, and whose ClientHello names a host or none, with an endpoint of the host, or, where the
// mesh knows nothing of it and lets it out, with the address that it meant to go to.
func (s *session) call(host string, port uint16, name string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !s.attendCall(cancel) {
		return
	}
	q := s.asTCP(host, port, name)
	var c transport.Call
	up, finish, err := s.connect(ctx, &c, q)
	s.attendCall(nil)
	c.End(err)
	tally := c.Tally(s.began, s.ends(name), err)
	if err != nil {
		tally.Failed(replyOf(err).flags(), "", err)
	}
	switch {
	case err != nil && ctx.Err() == nil && s.cause() == notEnded:
		s.refuse(s.to, replyOf(err))
		return
	case err != nil:
		return
	}
	s.tunnel(up, tally, finish)
}

// connect makes the call of the mesh: a connection, and what is to be called at its end.
func (s *visitor) connect(ctx context.Context, c *transport.Call, q *call.Request) (up net.Conn, finish func(), err error) {
	e := s.wire.mesh.engine
	switch step := e.Begin(ctx, c, q); step.Kind {
	case transport.Reject:
		return nil, nil, step.Err
	case transport.Direct:
		to := net.JoinHostPort(q.Host, strconv.Itoa(int(q.Port)))
		if s.to.IsValid() {
			to = s.wire.captor.names.beyond(s.to)
		}
		up, err = s.beyond(ctx, to)
		return up, func() {}, err
	case transport.Reply:
		return nil, nil, c.Fail(call.Outcome{Reason: call.ReasonInvalidRequest}, nil)
	case transport.Forward:
	}
	for wait := c.Unresolved(); wait != nil; wait = c.Unresolved() {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, nil, c.FailUnresolved(ctx.Err())
		}
	}
	for {
		leave, err := c.Occupy()
		if err != nil {
			return nil, nil, err
		}
		a, err := c.Pick(nil)
		if err != nil {
			leave()
			return nil, nil, err
		}
		var header []byte
		if version := c.Policy().ProxyProtocol; version != 0 {
			header = proxyproto.Append(nil, int(version), proxyproto.Header{From: addressOf(s.nc.RemoteAddr()), To: s.to})
		}
		up, err := e.OpenOpaque(ctx, a.Endpoint.Def.Address, c.Policy(), a.TLS(), q.Host, header)
		closed := c.Connected(err)
		if err == nil {
			a.Answered(call.Outcome{})
			return told(ctx, c, e, up), func() {
				closed()
				leave()
				a.Finish()
			}, nil
		}
		leave()
		o := call.NotConnected(err)
		if ctx.Err() != nil {
			o = call.Outcome{Reason: call.ReasonCanceled}
		}
		wait, again := c.Next(o, true)
		a.Answered(o)
		a.Finish()
		if !again || !rest(ctx, wait) {
			return nil, nil, c.Fail(o, err)
		}
	}
}

// rest waits. It reports false where ctx ends first.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
