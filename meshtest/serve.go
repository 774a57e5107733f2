package meshtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/heddlemesh/mesh/internal/memory"
)

// A Call is one request that reached an instance. Connections that it refused are not among them.
type Call struct {
	At     time.Time // of the bubble's clock under Run
	Method string
	Host   string
	Path   string // the request target, with the query
	Proto  string
	Header http.Header
	Status int        // what was answered, 0 for nothing yet and for nothing at all
	Code   codes.Code // how a gRPC call ended at the instance, OK until then; its Status is 200
	Fault  string     // the faults that it met, as in "Delay(1s), Status(503)"; "" for none
}

// Calls gives what reached the instance, in the order of arrival.
func (i *Instance) Calls() []Call {
	var calls []Call
	for _, e := range i.world.net.since(0) {
		if e.instance == i && !e.refused {
			calls = append(calls, e.call)
		}
	}
	return calls
}

type connKey struct{}

// start begins to serve. The number of the instance makes its draws differ from the others'.
func (i *Instance) start(seed uint64, number int) {
	i.random = rand.New(rand.NewPCG(seed, uint64(number)))
	i.conns = make(map[*conn]*usage)
	i.listener = memory.Listen(net.TCPAddrFromAddrPort(i.addr))
	i.served, i.quiet = make(chan struct{}), make(chan struct{})
	i.server.Handler = http.HandlerFunc(i.serve)
	i.server.ConnState = i.track
	i.server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		i.mu.Lock()
		defer i.mu.Unlock()
		return context.WithValue(ctx, connKey{}, i.connOf(c))
	}
	i.server.Protocols = new(http.Protocols)
	i.server.Protocols.SetHTTP1(true)
	i.server.Protocols.SetUnencryptedHTTP2(true)
	go func() {
		defer close(i.served)
		_ = i.serveHTTP()
	}()
}

// serve takes one request through the faults to the handler.
func (i *Instance) serve(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	met, ok := i.enter(c)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	defer i.leave(c)
	rec := &recorder{ResponseWriter: w, net: i.world.net, event: i.world.net.record(&event{instance: i, call: Call{
		Method: r.Method, Host: r.Host, Path: r.RequestURI, Proto: r.Proto, Header: maps.Clone(r.Header)}})}
	for _, f := range met {
		rec.meets(f)
		if i.suffer(f, rec, r, c) {
			return
		}
	}
	defer func() {
		p := recover()
		if err, ok := p.(error); p != nil && (!ok || !errors.Is(err, http.ErrAbortHandler)) {
			i.world.t.Errorf("the handler of %s panicked: %v\n%s", i, p, debug.Stack())
		}
		if p != nil {
			panic(http.ErrAbortHandler)
		}
	}()
	i.handler.ServeHTTP(rec, r)
	rec.codes()
	rec.answers(http.StatusOK)
}

// enter notes that a handler runs and gives the faults that its request meets. ok is false when the test
// has ended.
func (i *Instance) enter(c *conn) (met []Fault, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped {
		return nil, false
	}
	i.handlers++
	if u := i.conns[c]; u != nil {
		u.handlers++
		u.served = true
	}
	for _, a := range i.faults {
		if a.kind != refuseFault && a.strikes(i.random) {
			met = append(met, a.Fault)
		}
	}
	return met, true
}

func (i *Instance) leave(c *conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if u := i.conns[c]; u != nil {
		u.handlers--
	}
	if i.handlers--; i.handlers == 0 && i.stopped {
		close(i.quiet)
	}
}

// suffer makes the fault happen. It reports whether that was the end of the request.
func (i *Instance) suffer(f Fault, w *recorder, r *http.Request, c *conn) bool {
	switch f.kind {
	case delayFault:
		t := time.NewTimer(f.delay)
		defer t.Stop()
		select {
		case <-t.C:
			return false
		case <-r.Context().Done():
		case <-i.world.ctx.Done():
		}
	case statusFault:
		w.WriteHeader(f.code)
		if f.code >= 200 && f.code != http.StatusNoContent && f.code != http.StatusNotModified {
			_, _ = fmt.Fprintf(w, "meshtest: %s\n", f)
		}
		return true
	case codeFault:
		answerCode(w, f)
		return true
	case resetFault:
		if c != nil {
			c.Reset()
		}
	case hangFault:
		_, _ = io.Copy(io.Discard, r.Body) // only then does net/http notice that the caller is gone
		select {
		case <-r.Context().Done():
		case <-i.world.ctx.Done():
		}
	default:
		return false
	}
	panic(http.ErrAbortHandler) // no answer
}

// stop ends the server and waits for what runs on it. It reports handlers that do not return.
func (i *Instance) stop() error {
	_ = i.server.Close()
	<-i.served
	if i.mesh != nil {
		_ = i.mesh.Close()
	}
	i.mu.Lock()
	i.stopped = true
	if i.handlers == 0 {
		close(i.quiet)
	}
	i.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-i.quiet
		if i.rpc != nil {
			i.rpc.Stop() // waits for its methods, which can outlive their requests
		}
	}()
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	select {
	case <-ended:
		return nil
	case <-patience.C:
		return fmt.Errorf("a handler of %s does not return when its request's context ends", i)
	}
}

// A recorder notes the status of an answer before the caller can see it.
type recorder struct {
	http.ResponseWriter
	net   *network
	event *event
	wrote bool
}

func (r *recorder) meets(f Fault) {
	r.net.note(func() {
		if r.event.call.Fault != "" {
			r.event.call.Fault += ", "
		}
		r.event.call.Fault += f.String()
	})
}

func (r *recorder) answers(status int) {
	if r.wrote || status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	r.wrote = true
	r.net.note(func() { r.event.call.Status = status })
}

func (r *recorder) WriteHeader(status int) {
	r.answers(status)
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.answers(http.StatusOK)
	return r.ResponseWriter.Write(p)
}

func (r *recorder) Flush() {
	r.answers(http.StatusOK)
	_ = http.NewResponseController(r.ResponseWriter).Flush()
}

func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(r.ResponseWriter).Hijack()
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
