package faults_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"
)

// faults is the table. What stands in no row here is left out for a reason: see docs/resilience.md.
func faults() []fault {
	d := hangs().String()
	try := judged(time.Second, ", perTryTimeout: "+d)
	whole := judged(time.Second, "")
	whole.route += "\n    timeout: " + d
	quick := judged(time.Second, "")
	quick.traffic += ", connectionPool: {tcp: {connectTimeout: " + d + "}}"
	long := policy{route: "retries: {attempts: 0}"}
	again := policy{route: "retries: {attempts: 2, retryOn: reset}"}
	return []fault{
		{name: "D-001 killed and restarted", breakage: breakage{down: true}, posts: met, back: true},
		{name: "D-002 all killed and restarted", breakage: breakage{down: true}, all: true, gets: unbounded, posts: unbounded, policy: budgeted(), back: true, check: noStorm},
		{name: "D-003 stopped and continued", breakage: breakage{accepted: (*exchange).pause, head: (*exchange).pause}, policy: try, posts: met},
		{name: "D-004 port closed", breakage: breakage{down: true}, first: true},
		{name: "D-005 connections never made", breakage: breakage{dial: blackhole}, first: true, policy: quick},
		{name: "D-006 packets lost", breakage: breakage{head: (*exchange).drain}, policy: try, posts: met},
		{name: "D-007 unreachable", breakage: breakage{dial: fails(syscall.EHOSTUNREACH)}, first: true},
		{name: "D-010 reset when accepted", breakage: breakage{accepted: (*exchange).reset, answer: (*exchange).end}, posts: met},
		{name: "D-011 reset within the request", breakage: breakage{head: halfRead((*exchange).reset)}, posts: met},
		{name: "D-011 closed within the request", breakage: breakage{head: halfRead((*exchange).end)}, posts: met},
		{name: "D-012 reset within the answer's head", breakage: breakage{answer: says("HTTP/1.1 200 OK\r\nContent-Le", (*exchange).reset)}, posts: met},
		{name: "D-012 closed within the answer's head", breakage: breakage{answer: says("HTTP/1.1 200 OK\r\nContent-Le", (*exchange).end)}, posts: met},
		{name: "D-013 reset within the body", breakage: breakage{answer: half((*exchange).reset)}, gets: unbounded, posts: unbounded, single: true},
		{name: "D-013 reset within chunks", breakage: breakage{answer: chunked(0, (*exchange).reset)}, gets: unbounded, posts: unbounded, single: true},
		{name: "D-014 closed within the body", breakage: breakage{answer: half((*exchange).end)}, gets: unbounded, posts: unbounded, single: true},
		{name: "D-014 closed within a chunk", breakage: breakage{answer: chunked(100, (*exchange).end)}, gets: unbounded, posts: unbounded, single: true},
		{name: "D-014 no last chunk", breakage: breakage{answer: chunked(0, (*exchange).end)}, gets: unbounded, posts: unbounded, single: true},
		{name: "D-015 the body ends with the connection", breakage: breakage{answer: endless}},
		{name: "D-016 an answer and the end of it while a request comes", breakage: breakage{head: early("Connection: close\r\n", true)}},
		{name: "D-017 an early answer", breakage: breakage{head: early("", false)}},
		{name: "D-018 hangs before the answer", breakage: breakage{answer: (*exchange).drain}, policy: try, posts: met},
		{name: "D-018 hangs after the head", breakage: breakage{answer: hangsAfter(0)}, policy: whole, gets: unbounded, posts: unbounded, single: true},
		{name: "D-018 hangs within the body", breakage: breakage{answer: hangsAfter(0.5)}, policy: whole, gets: unbounded, posts: unbounded, single: true},
		{name: "D-019 slow answers", breakage: breakage{answer: held, share: 0.2}, policy: long},
		{name: "D-020 idle connections closed", breakage: breakage{idle: func() time.Duration { return rand.N(50 * time.Millisecond) }}, all: true, first: true,
			policy: again, manner: keyed, posts: rare},
		{name: "D-021 an expectation refused", breakage: breakage{head: early("", false), share: 0.5}, manner: expects},
		{name: "D-023 nothing but errors", breakage: breakage{answer: fails500}, posts: met},
		{name: "D-023 half of the answers are errors", breakage: breakage{answer: fails500, share: 0.5}, posts: unbounded},
		{name: "D-023 one error in a hundred", breakage: breakage{answer: fails500, share: 0.01}, all: true, posts: unbounded, check: nobodyEjected},
		{name: "D-026 every answer is an error", breakage: breakage{answer: fails503}, all: true, gets: unbounded, posts: unbounded, policy: budgeted(), check: noStorm},
		{name: "D-032 late answers", breakage: breakage{answer: late}, policy: long},
		{name: "D-035 a hundred early hints", breakage: breakage{answer: hints(100, nil)}, gets: unbounded, posts: unbounded},
		{name: "D-035 some early hints", breakage: breakage{answer: hints(5, nil)}},
		{name: "D-035 reset after early hints", breakage: breakage{answer: hints(1, (*exchange).reset)}, posts: met, gets: unbounded},
		{name: "D-035 hangs after early hints", breakage: breakage{answer: hints(1, (*exchange).drain)}, policy: try, posts: met, gets: unbounded},
		{name: "D-036 a WebSocket cut off", breakage: breakage{answer: socket}, all: true, first: true, manner: upgrades, gets: unbounded, posts: unbounded, single: true, check: cutOff},
	}
}

func blackhole(ctx context.Context, _ dialFunc, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func fails(errno syscall.Errno) func(context.Context, dialFunc, string, string) (net.Conn, error) {
	return func(_ context.Context, _ dialFunc, network, _ string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errno}
	}
}

// halfRead reads half of the request's body.
func halfRead(then func(*exchange)) func(*exchange) {
	return func(x *exchange) {
		_, _ = io.CopyN(io.Discard, x.req.Body, sizeOf(x.entry.id)/2)
		then(x)
	}
}

func says(text string, then func(*exchange)) func(*exchange) {
	return func(x *exchange) {
		x.up.book.answering(x.entry)
		x.write(text)
		then(x)
	}
}

// half answers with half of what it says.
func half(then func(*exchange)) func(*exchange) {
	return func(x *exchange) {
		n := answerOf(x.entry.id)
		x.begin("HTTP/1.1 200 OK", fmt.Sprintf("Content-Length: %d\r\n", n+1))
		x.send(n / 2)
		then(x)
	}
}

// chunked answers with one chunk, of which so many bytes are missing, and no other.
func chunked(missing int64, then func(*exchange)) func(*exchange) {
	return func(x *exchange) {
		n := answerOf(x.entry.id)/2 + 1
		x.begin("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n")
		x.write(fmt.Sprintf("%x\r\n", n+missing))
		x.send(n)
		if missing == 0 {
			x.write("\r\n")
		}
		then(x)
	}
}

func hangsAfter(part float64) func(*exchange) {
	return func(x *exchange) {
		n := answerOf(x.entry.id)
		x.begin("HTTP/1.1 200 OK", fmt.Sprintf("Content-Length: %d\r\n", n+1))
		x.send(int64(part * float64(n)))
		x.drain()
	}
}

// endless is an answer of HTTP/1.0 without a length.
func endless(x *exchange) {
	x.begin("HTTP/1.0 200 OK", "")
	x.send(answerOf(x.entry.id))
	x.end()
}

// early refuses a request before its body has come, and takes what comes of it all the same.
func early(fields string, closes bool) func(*exchange) {
	return func(x *exchange) {
		x.begin("HTTP/1.1 417 Expectation Failed", fields+"Content-Length: 0\r\n")
		if tcp, ok := x.conn.(*net.TCPConn); ok && closes {
			_ = tcp.CloseWrite()
		}
		if closes {
			x.drain()
		}
		x.early = true
	}
}

// held answers in two parts, the second when the fault is over.
func held(x *exchange) {
	n := answerOf(x.entry.id)
	x.begin("HTTP/1.1 200 OK", fmt.Sprintf("Content-Length: %d\r\n", n))
	x.send(n / 2)
	x.pause()
	rest := stream(x.entry.id, answers, n)
	_, _ = io.CopyN(io.Discard, rest, n/2)
	if _, err := io.Copy(x.conn, rest); err != nil {
		x.over = true
	}
}

func late(x *exchange) {
	<-time.After(rand.N(50 * time.Millisecond))
	x.reply()
}

func fails500(x *exchange) { x.begin("HTTP/1.1 500 Internal Server Error", "Content-Length: 0\r\n") }
func fails503(x *exchange) { x.begin("HTTP/1.1 503 Service Unavailable", "Content-Length: 0\r\n") }

// hints sends informational answers first, and then the one that counts unless something else happens.
func hints(n int, then func(*exchange)) func(*exchange) {
	return func(x *exchange) {
		for range n {
			x.write("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
		}
		if then != nil {
			then(x)
			return
		}
		x.reply()
	}
}

// keyed sends every second request with an Idempotency-Key that nobody has opted in to.
func keyed(ctx context.Context, req *http.Request) (context.Context, bool) {
	if rand.N(2) == 0 {
		req.Header.Set("Idempotency-Key", "k"+req.Header.Get(identityField))
	}
	return ctx, false
}

func expects(ctx context.Context, req *http.Request) (context.Context, bool) {
	if req.ContentLength > 0 {
		req.Header.Set("Expect", "100-continue")
	}
	return ctx, false
}

// socket switches protocols where it is asked to, and is gone within what it sends then.
func socket(x *exchange) {
	if x.req.Header.Get("Upgrade") == "" {
		x.reply()
		return
	}
	x.begin("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade\r\nUpgrade: websocket\r\n")
	x.send(answerOf(x.entry.id))
	x.reset()
}

func upgrades(ctx context.Context, req *http.Request) (context.Context, bool) {
	if req.Method == http.MethodGet {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
	}
	return ctx, false
}

// cutOff: who speaks by a tunnel hears that it broke.
func cutOff(r *run) {
	cut := 0
	for _, t := range r.told {
		if t.status == http.StatusSwitchingProtocols {
			cut++
			if t.err == nil {
				r.tb.Errorf("%s: the tunnel of request %d ended as if nothing were", r.name, t.id)
			}
		}
	}
	if cut == 0 && atLength() {
		r.tb.Errorf("%s: no tunnels", r.name)
	}
}

// budgeted is retries without ejection, so that a budget is all that bounds them.
func budgeted() policy {
	return policy{
		traffic: "retryBudget: {percent: 20, minRetryConcurrency: 3}",
		route:   "retries: {attempts: 2, retryOn: '5xx,reset,connect-failure', backoff: 1ms}",
	}
}

// noStorm: of the retries no more were under way at a time than the budget has.
func noStorm(r *run) {
	if may := max(3, r.peak/5); r.book.peak > may {
		r.tb.Errorf("%s: %d retries at a time with %d requests in flight, want at most %d", r.name, r.book.peak, r.peak, may)
	}
}

func nobodyEjected(r *run) {
	if out := r.ejections(); len(out) > 0 {
		r.tb.Errorf("%s: %v are ejected", r.name, out)
	}
}
