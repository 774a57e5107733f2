package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// An upstream asks name servers: each question once at a time, whoever asks. It is safe for concurrent use.
type upstream struct {
	system func() system // the servers
	not    func(netip.AddrPort) bool

	mu      sync.Mutex // guards what follows
	flights map[string]*flight
	own     map[netip.AddrPort]*asking // by the address that it asks from
}

// A flight is one question under way.
type flight struct {
	done   chan struct{}
	answer []byte // without OPT
	err    error
}

// An asking is one socket by which a server is asked.
type asking struct {
	conn  net.Conn
	ended bool // what it sent has come to ourselves
}

var (
	errNoServer = errors.New("no name server is known")
	errOwn      = errors.New("a query came back to who sent it: the rules must exempt the user or group that the sidecar runs as")
)

// ask gives the answer to a question, which other goroutines may have too: it must not be changed. kept says whether it is known by
// now, and then there is none; keep has it before anybody else asks anew: who comes late finds it kept, or under way.
func (u *upstream) ask(ctx context.Context, q *query, key string, kept func() bool, keep func(answer []byte)) (answer []byte, err error) {
	u.mu.Lock()
	if f := u.flights[key]; f != nil {
		u.mu.Unlock()
		select {
		case <-f.done:
			return f.answer, f.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if kept() {
		u.mu.Unlock()
		return nil, nil
	}
	if u.flights == nil {
		u.flights = make(map[string]*flight)
	}
	f := &flight{done: make(chan struct{})}
	u.flights[key] = f
	u.mu.Unlock()
	if f.answer, f.err = u.exchange(ctx, q); f.err == nil {
		keep(f.answer)
	}
	u.mu.Lock()
	delete(u.flights, key)
	u.mu.Unlock()
	close(f.done)
	return f.answer, f.err
}

// exchange asks one server after the other. An answer that says nothing of the name counts where no server has a better one.
func (u *upstream) exchange(ctx context.Context, q *query) ([]byte, error) {
	sys := u.system()
	var refusal []byte
	failed := errNoServer
	for range sys.attempts {
		for _, server := range sys.servers {
			if u.not(server) {
				continue
			}
			b, err := u.at(ctx, q, server, sys.timeout)
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil:
				failed = fmt.Errorf("ask %s: %w", server, err)
				continue
			}
			switch word(b, 2) & maskCode {
			case 0, codeNoName:
				return plain(b), nil
			}
			refusal = plain(b)
		}
		if refusal != nil {
			return refusal, nil
		}
	}
	return nil, failed
}

// at asks one server: by UDP; without EDNS where that is too much for it; and by TCP where UDP is too little.
func (u *upstream) at(ctx context.Context, q *query, server netip.AddrPort, timeout time.Duration) ([]byte, error) {
	b, err := u.by(ctx, "udp", q, server, timeout, true)
	if err != nil {
		return nil, err
	}
	edns := true
	if code := word(b, 2) & maskCode; code == codeFormat || code == codeNotImplemented {
		edns = false
		if b, err = u.by(ctx, "udp", q, server, timeout, false); err != nil {
			return nil, err
		}
	}
	if word(b, 2)&bitTruncated != 0 {
		return u.by(ctx, "tcp", q, server, timeout, edns)
	}
	return b, nil
}

// triesAnew is how often another port is tried where a query has come back to us: the kernel may have taken it for one of a flow
// that it redirects, of a program that had the port before.
const triesAnew = 3

func (u *upstream) by(ctx context.Context, network string, q *query, server netip.AddrPort, timeout time.Duration, edns bool) (b []byte, err error) {
	for range triesAnew {
		if b, err = u.once(ctx, network, q, server, timeout, edns); !errors.Is(err, errOwn) {
			break
		}
	}
	return b, err
}

// once sends one query from a port of its own, with a number that nobody can guess, and takes nothing but its answer.
func (u *upstream) once(ctx context.Context, network string, q *query, server netip.AddrPort, timeout time.Duration, edns bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	from, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	a := u.begin(from, conn)
	defer u.end(from)
	var number [2]byte
	_, _ = rand.Read(number[:]) // never fails
	id := binary.BigEndian.Uint16(number[:])
	request := q.request(make([]byte, 2, 2+headerLen+len(q.question)+optLen), id, edns)
	binary.BigEndian.PutUint16(request, uint16(len(request)-2))
	var b []byte
	if network == "udp" {
		b, err = overUDP(conn, request[2:], q, id)
	} else {
		b, err = overTCP(conn, request, q, id)
	}
	if err != nil && u.came(a) {
		return nil, errOwn
	}
	return b, err
}

// overUDP waits for the answer, whatever else may come.
func overUDP(conn net.Conn, request []byte, q *query, id uint16) ([]byte, error) {
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	b := make([]byte, largestUDP)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return nil, err
		}
		if q.answeredBy(b[:n], id) {
			return b[:n], nil
		}
	}
}

func overTCP(conn net.Conn, request []byte, q *query, id uint16) ([]byte, error) {
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	b, err := readFramed(conn, nil)
	if err == nil && !q.answeredBy(b, id) {
		err = errMalformed
	}
	return b, err
}

// readFramed reads a message with its length before it (RFC 1035 §4.2.2), into b where that is large enough.
func readFramed(r io.Reader, b []byte) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := word(size[:], 0)
	if n > cap(b) {
		b = make([]byte, n)
	}
	_, err := io.ReadFull(r, b[:n])
	return b[:n], err
}

func (u *upstream) begin(from netip.AddrPort, conn net.Conn) *asking {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.own == nil {
		u.own = make(map[netip.AddrPort]*asking)
	}
	a := &asking{conn: conn}
	u.own[from] = a
	return a
}

func (u *upstream) end(from netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.own, from)
}

func (u *upstream) came(a *asking) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return a.ended
}

// sent reports whether a query comes from one of our own sockets, which then waits no longer.
func (u *upstream) sent(from netip.AddrPort) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	a := u.own[from]
	if a == nil {
		return false
	}
	a.ended = true
	_ = a.conn.SetDeadline(time.Unix(1, 0))
	return true
}
