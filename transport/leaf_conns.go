package transport

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
)

// A leaf is the connections to one endpoint under one policy.
type leaf struct {
	key    leafKey
	leaves *Leaves
	secure [2]*originator    // for what is not HTTP/2 and what is; nil for none
	refs   int               // guarded by Leaves.mu
	counts *connectionCounts // of the cluster that had it first

	http1 *http1Leaf                  // nil where net/http has HTTP/1.1 too, or all is HTTP/2
	http2 *http2Leaf                  // nil where net/http has HTTP/2 too, or all is HTTP/1.1
	conns atomic.Pointer[connections] // nil until something goes over net/http
	mu    sync.Mutex                  // held by who replaces conns
	// rest is when the first of conns is to rest, in Unix nanoseconds; 0 for never.
	rest atomic.Int64
}

// lease is one endpoint record's hold on a leaf.
type lease struct {
	*leaf
	released bool // guarded by Leaves.mu
}

// connections are those of a leaf that may still be used: one transport, or two where requests differ in what they
// go over.
type connections struct {
	main http.Transport
	// http2 has the http URLs that go over HTTP/2, where main does not take them so: by the caller's protocol, or
	// within TLS, of which net/http has to know so that :scheme says https.
	http2 *http.Transport
	until time.Time // zero for always
}

// newLeaf makes a leaf without a connection. leaves.mu is held.
func newLeaf(l *Leaves, key leafKey) *leaf {
	f := &leaf{key: key, leaves: l}
	if key.secured {
		f.secure[0] = l.originator(key.tls, key.proto)
		f.secure[1] = l.originator(key.tls, snapshot.HTTP2)
	}
	if !l.netHTTP && key.proto != snapshot.HTTP2 {
		f.http1 = newHTTP1Leaf(f)
	}
	if !l.netHTTP && (key.proto == snapshot.HTTP2 || key.conns.ClientProtocol) {
		f.http2 = newHTTP2Leaf(f)
	}
	return f
}

// RoundTrip implements http.RoundTripper.
func (f *leaf) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" {
		two := f.http1 == nil
		if f.key.conns.ClientProtocol {
			two = req.ProtoMajor == 2
		}
		switch {
		case two && f.http2 != nil:
			return answerTo(req)(f.http2.roundTrip(ownBody(f.saying(req))))
		case !two && f.http1 != nil && req.Method != http.MethodConnect:
			return f.http1.roundTrip(req)
		}
		if said := f.saying(req); said != req {
			return answerTo(req)(f.byNetHTTP(said))
		}
	}
	return f.byNetHTTP(req)
}

// byNetHTTP sends a request over net/http's own pools.
func (f *leaf) byNetHTTP(req *http.Request) (*http.Response, error) {
	c := f.conns.Load()
	if c == nil {
		c = f.renew(nil)
	}
	if !c.until.IsZero() && !time.Now().Before(c.until) || f.rests() {
		c = f.renew(c)
	}
	if !hasBody(req) {
		return f.roundTrip(c, req)
	}
	if n, ok := memorySize(req.Body); ok && (n == req.ContentLength || req.ContentLength <= 0) { // it is what it is said to be
		return f.roundTrip(c, req)
	}
	return answerTo(req)(f.roundTrip(c, ownBody(req)))
}

// roundTrip chooses the transport of a request, and has it carry the name that its connection is made under.
func (f *leaf) roundTrip(c *connections, req *http.Request) (*http.Response, error) {
	if c.http2 == nil && !f.key.secured {
		return c.main.RoundTrip(req)
	}
	if req.URL.Scheme != "http" || c.http2 == nil || f.key.conns.ClientProtocol && req.ProtoMajor != 2 {
		out := req
		if f.key.secured && req.URL.Scheme == "http" && req.Host != "" && req.Host != req.URL.Host {
			out = renamed(req, "http")
		}
		return answerTo(req)(c.main.RoundTrip(out))
	}
	if !f.key.secured {
		return c.http2.RoundTrip(req)
	}
	return answerTo(req)(c.http2.RoundTrip(renamed(req, "https")))
}

// renamed gives the request with a URL of the host that it is for: net/http keeps its connections by that, and
// hands it to who dials.
func renamed(req *http.Request, scheme string) *http.Request {
	out := new(http.Request)
	*out = *req
	out.URL = new(*req.URL)
	out.URL.Scheme = scheme
	if out.Host == "" {
		out.Host = req.URL.Host
	}
	out.URL.Host = out.Host
	return out
}

// answerTo makes the answer one to the caller's own request.
func answerTo(req *http.Request) func(*http.Response, error) (*http.Response, error) {
	return func(resp *http.Response, err error) (*http.Response, error) {
		if err == nil {
			resp.Request = req
		}
		return resp, err
	}
}

// renew replaces connections whose time is up, and makes the first. Those that are in use are closed after it.
func (f *leaf) renew(old *connections) *connections {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.conns.Load(); c != old {
		return c
	}
	f.rest.Store(0)
	next := f.newConnections()
	f.conns.Store(next)
	if old != nil {
		old.closeIdle()
	}
	return next
}

// rests reports that a connection is to rest: others take the place of all.
func (f *leaf) rests() bool {
	at := f.rest.Load()
	return at != 0 && time.Now().UnixNano() >= at
}

// noteRest keeps when a new connection is to rest.
func (f *leaf) noteRest(conn net.Conn) {
	if !f.key.tls.Mesh {
		return
	}
	for until := f.leaves.live.rests(conn); !until.IsZero(); {
		at := f.rest.Load()
		if at != 0 && at <= until.UnixNano() || f.rest.CompareAndSwap(at, until.UnixNano()) {
			return
		}
	}
}

// CloseIdleConnections closes the connections that no call uses at the moment.
func (f *leaf) CloseIdleConnections() {
	if f.http1 != nil {
		f.http1.pool.CloseAllIdle()
	}
	if f.http2 != nil {
		f.http2.closeIdle()
	}
	if c := f.conns.Load(); c != nil {
		c.closeIdle()
	}
}

func (c *connections) closeIdle() {
	c.main.CloseIdleConnections()
	if c.http2 != nil {
		c.http2.CloseIdleConnections()
	}
}

func (f *leaf) newConnections() *connections {
	c, k := new(connections), &f.key
	f.configure(&c.main)
	if k.proto == snapshot.HTTP2 {
		c.main.Protocols.SetUnencryptedHTTP2(true)
	} else {
		c.main.Protocols.SetHTTP1(true)
	}
	c.main.DialContext = f.dialer(f.secure[0])
	if f.leaves.netHTTP && (k.conns.ClientProtocol || k.secured && k.proto == snapshot.HTTP2) {
		c.http2 = new(http.Transport)
		f.configure(c.http2)
		if k.secured {
			c.http2.DialTLSContext = f.dialer(f.secure[1])
		} else {
			c.http2.Protocols.SetUnencryptedHTTP2(true)
			c.http2.DialContext = f.dialer(nil)
		}
	}
	if k.conns.MaxAge > 0 {
		c.until = time.Now().Add(k.conns.MaxAge)
	}
	return c
}

// idleTimeout is how long a connection is kept without a request where no rule says so.
const idleTimeout = 90 * time.Second

// configure is what all of a leaf's transports have in common.
func (f *leaf) configure(t *http.Transport) {
	t.Proxy = nil               // the endpoint is the destination
	t.DisableCompression = true // encodings are between the program and the service
	t.MaxIdleConnsPerHost = 64  // net/http's 2 makes every burst dial
	t.ReadBufferSize = 16 << 10 // most answers in one read: of 10 KiB, 3 % to 5 % less CPU than with net/http's 4 KiB
	t.IdleConnTimeout = idleTimeout
	t.TLSHandshakeTimeout = DefaultConnectTimeout
	t.ExpectContinueTimeout = time.Second
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second} // finds dead peers
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP2(true) // over the program's own TLS, where the peer offers it
	if f.leaves.tls != nil {
		t.TLSClientConfig = f.leaves.tls.Clone()
	}
	set := &f.key.conns
	t.DisableKeepAlives = set.MaxRequests == 1
	if set.Idle > 0 {
		t.IdleConnTimeout = set.Idle
	}
	if p := set.Ping; p.Interval > 0 {
		t.HTTP2.SendPingTimeout, t.HTTP2.PingTimeout = p.Interval, p.Timeout
	}
}

// dialer gives the function that connects to the endpoint, secured where there is an originator, all within the
// connect time-out.
func (f *leaf) dialer(secure *originator) DialFunc {
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, f.key.timeout)
		defer cancel()
		conn, err := f.leaves.dial(ctx, f.key.addr.Network, f.key.addr.Addr)
		if err != nil {
			return nil, &connectError{err}
		}
		keepAlive(conn, f.key.conns.KeepAlive)
		if secure == nil {
			return conn, nil
		}
		host, _, err := call.SplitAuthority(addr)
		if err != nil {
			_ = conn.Close()
			return nil, &connectError{err}
		}
		c, err := secure.secure(ctx, conn, host)
		if err != nil {
			return nil, &connectError{err}
		}
		f.noteRest(c)
		return c, nil
	}
}

// keepAlive has the system probe the connection, where it is one of the system's.
func keepAlive(conn net.Conn, k snapshot.KeepAlive) {
	c, ok := conn.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	})
	if !k.Set || !ok {
		return
	}
	config := net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1} // the system's own
	if k.Time > 0 {
		config.Idle = k.Time
	}
	if k.Interval > 0 {
		config.Interval = k.Interval
	}
	if k.Probes > 0 {
		config.Count = k.Probes
	}
	_ = c.SetKeepAliveConfig(config) // a connection without probes is still one
}
