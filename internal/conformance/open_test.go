package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/transport"
)

// Policies that change while requests are under way (attacks.md E-003): what a guest has begun is ended, what others have
// goes on.

const (
	guestsOut = `{action: DENY, rules: [{when: [{key: "request.headers[x-role]", values: [guest]}]}]}`
	adminsOut = `{action: DENY, rules: [{when: [{key: "request.headers[x-role]", values: [admin]}]}]}`
)

// An openApp has requests that last: /download answers and goes on when it is told to, /upload reads to the end, /socket
// echoes what comes after a 101, from a goroutine of its own.
type openApp struct {
	more  map[string]chan struct{} // by role: what /download waits for between its lines, and what /upload tells of what it reads
	ended chan string              // the paths whose work is over
}

func newOpenApp() *openApp {
	return &openApp{more: map[string]chan struct{}{"guest": make(chan struct{}), "staff": make(chan struct{})}, ended: make(chan string, 8)}
}

func (a *openApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	more := a.more[r.Header.Get("X-Role")]
	r.Header.Del("X-Role") // programs do such things to their requests
	r.URL.Path += "#"
	switch path := strings.TrimSuffix(r.URL.Path, "#"); path {
	case "/download":
		defer func() { a.ended <- path }()
		for {
			_, _ = io.WriteString(w, "line\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	case "/upload":
		for piece := make([]byte, 1000); ; more <- struct{}{} {
			if _, err := io.ReadFull(r.Body, piece); err != nil {
				a.ended <- path
				return
			}
		}
	case "/socket":
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		go func() {
			_, _ = io.Copy(conn, rw)
			_ = conn.Close()
			a.ended <- path
		}()
	}
}

// told counts the denials that the mesh tells of.
type told chan mesh.PolicyEvent

func (c told) option() mesh.Option {
	return mesh.WithPolicyLog(func(e mesh.PolicyEvent) {
		if e.Status != 0 {
			c <- e
		}
	})
}

// once fails where not exactly one denial was told.
func (c told) once(t *testing.T) {
	t.Helper()
	select {
	case e := <-c:
		if e.Status != http.StatusForbidden || !strings.Contains(e.Details, "policy[p]-rule[0]") {
			t.Errorf("told %+v", e)
		}
	case <-time.After(30 * time.Second):
		t.Error("nobody was told")
	}
	if len(c) > 0 {
		t.Errorf("told again: %+v", <-c)
	}
}

func TestPolicyChangeUnderWay(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, kind := range []string{"/download", "/upload", "/socket"} {
				if kind == "/socket" && f.http2 {
					continue
				}
				t.Run(kind[1:], func(t *testing.T) {
					t.Parallel()
					app, heard := newOpenApp(), make(told, 8)
					m := inboundMesh(t, "", heard.option())
					addr := f.serve(t, m, app)
					guest, staff := f.open(t, addr, kind, "guest"), f.open(t, addr, kind, "staff")
					guest.goesOn(t, app)
					staff.goesOn(t, app)
					for _, spec := range []string{adminsOut, guestsOut} {
						if spec == guestsOut {
							guest.goesOn(t, app)
						}
						if err := m.Apply(t.Context(), []byte(policy("p", spec))); err != nil {
							t.Fatal(err)
						}
					}
					guest.isOver(t)
					heard.once(t)
					if path := <-app.ended; path != kind {
						t.Errorf("%s has ended", path)
					}
					staff.goesOn(t, app)
					if len(app.ended) > 0 {
						t.Error("who is let in was ended too")
					}
				})
			}
		})
	}
}

// An opened is a request that is under way.
type opened struct {
	kind   string
	role   string
	w      io.WriteCloser // the request's body, or the connection
	r      *bufio.Reader  // the answer's, nil where it is yet to come
	answer chan answerOf
}

type answerOf struct {
	resp *http.Response
	err  error
}

// open begins a request and, but for an upload, reads the answer's head.
func (f *face) open(t *testing.T, addr, kind, role string) *opened {
	t.Helper()
	if f.http2 {
		return openHTTP2(t, addr, kind, role)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	method, fields := "GET", ""
	switch kind {
	case "/upload":
		method, fields = "POST", "Content-Length: 1000000\r\n"
	case "/socket":
		fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	}
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: web\r\nX-Role: %s\r\nX-Request-Id: a\r\n%s\r\n", method, kind, role, fields)
	o := &opened{kind: kind, role: role, w: c, r: bufio.NewReader(c)}
	if kind == "/upload" {
		return o
	}
	resp, err := http.ReadResponse(o.r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	if kind == "/download" {
		o.r = bufio.NewReader(resp.Body)
	}
	return o
}

func openHTTP2(t *testing.T, addr, kind, role string) *opened {
	t.Helper()
	pr, pw := io.Pipe()
	o := &opened{kind: kind, role: role, w: pw, answer: make(chan answerOf, 1)}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+kind, nil)
	if kind == "/upload" {
		req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+kind, pr)
	}
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Role", role)
	tr := http2Client()
	t.Cleanup(func() { _ = pw.Close(); tr.CloseIdleConnections() })
	if kind == "/upload" {
		go func() {
			resp, err := tr.RoundTrip(req)
			o.answer <- answerOf{resp, err}
		}()
		return o
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	o.r = bufio.NewReader(resp.Body)
	return o
}

// goesOn has something move.
func (o *opened) goesOn(t *testing.T, app *openApp) {
	t.Helper()
	step := func() {
		select {
		case app.more[o.role] <- struct{}{}:
		case <-app.more[o.role]:
		case <-time.After(30 * time.Second):
			t.Fatal("nobody answers any more")
		}
	}
	line := func(want string) {
		if s, err := o.r.ReadString('\n'); s != want {
			t.Fatalf("%q, %v", s, err)
		}
	}
	switch o.kind {
	case "/upload":
		if _, err := o.w.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		step()
	case "/socket":
		if _, err := io.WriteString(o.w, "hello\n"); err != nil {
			t.Fatal(err)
		}
		line("hello\n")
	case "/download":
		line("line\n")
		step()
	}
}

// isOver reads to the end, which is none in good order.
func (o *opened) isOver(t *testing.T) {
	t.Helper()
	if o.kind == "/upload" && o.answer != nil {
		select {
		case a := <-o.answer:
			if a.err == nil && a.resp.StatusCode != http.StatusForbidden {
				t.Errorf("answered %d", a.resp.StatusCode)
			}
		case <-time.After(30 * time.Second):
			t.Error("an upload goes on")
		}
		return
	}
	if o.kind == "/upload" {
		if resp, err := http.ReadResponse(o.r, nil); err == nil && resp.StatusCode != http.StatusForbidden {
			t.Errorf("answered %d", resp.StatusCode)
		}
		return
	}
	_, err := io.Copy(io.Discard, o.r)
	if err == nil && o.kind == "/download" {
		t.Error("the answer ends as if it were whole")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("it goes on")
	}
}

// TestPolicyChangeOfRPCs: a stream on which nothing moves ends, and so does the context of a unary RPC.
func TestPolicyChangeOfRPCs(t *testing.T) {
	t.Parallel()
	heard := make(told, 8)
	m := inboundMesh(t, "", heard.option())
	f := newGRPCFace(t, m)
	open := func(role string) grpc.ClientStream {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "x-role", role), time.Minute)
		t.Cleanup(cancel)
		s, err := f.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/pkg.Service/Stream")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	trip := func(s grpc.ClientStream) error {
		if err := s.SendMsg(new(emptypb.Empty)); err != nil {
			return err
		}
		return s.RecvMsg(new(emptypb.Empty))
	}
	guest, staff := open("guest"), open("staff")
	for _, spec := range []string{"", adminsOut, guestsOut} {
		for _, s := range []grpc.ClientStream{guest, staff} {
			if err := trip(s); err != nil {
				t.Fatal(err)
			}
		}
		if spec != "" {
			if err := m.Apply(t.Context(), []byte(policy("p", spec))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := guest.RecvMsg(new(emptypb.Empty)); grpcstatus.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "RBAC: access denied") {
		t.Errorf("a silent stream: %v", err)
	}
	heard.once(t)
	if err := trip(staff); err != nil {
		t.Errorf("who is let in: %v", err)
	}
}

// TestPolicyChangeRace: requests that come while policies change are either refused or ended: when the last change is over
// none is under way that it does not let in.
func TestPolicyChangeRace(t *testing.T) {
	t.Parallel()
	m := inboundMesh(t, "")
	e := m.Engine()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := m.Apply(context.Background(), []byte(policy("p", []string{adminsOut, guestsOut}[i%2]))); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	var ended, refused int
	for range 300 {
		h := &hungGuest{over: make(chan struct{})}
		var s transport.Stay
		s.Arrival = guestArrival()
		if v := s.Enter(e, h); v.Status != 0 {
			refused++
			continue
		}
		select {
		case <-h.over:
		case <-time.After(30 * time.Second):
			t.Fatal("it was let in and never ended")
		}
		ended++
		s.Leave()
	}
	close(stop)
	<-stopped
	t.Logf("%d ended, %d refused", ended, refused)
}

// TestTokenNoLongerLookedAt: a request that its token has let in ends where nobody looks at the token any more, or where it stands.
func TestTokenNoLongerLookedAt(t *testing.T) {
	t.Parallel()
	const issuer = "https://issuer.example"
	named := policy("p", "{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}")
	for _, then := range []string{"", authentication("r", issuer, ", fromHeaders: [{name: x-token}]")} {
		m := inboundMesh(t, named+authentication("r", issuer, ""))
		h := &hungGuest{over: make(chan struct{})}
		var s transport.Stay
		s.Arrival = guestArrival()
		s.Arrival.Headers = call.HTTPHeaders{"Authorization": {"Bearer " + tokenOf(nil)}}
		if v := s.Enter(m.Engine(), h); v.Status != 0 {
			t.Fatalf("refused: %+v", v)
		}
		if err := m.Apply(t.Context(), []byte(named+then)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-h.over:
		case <-time.After(30 * time.Second):
			t.Errorf("it goes on with %q", then)
		}
		s.Leave()
	}
}

// TestPolicyChangeMeanwhile: a request about which somebody is asked while policies change is decided on by the new ones.
func TestPolicyChangeMeanwhile(t *testing.T) {
	t.Parallel()
	m := inboundMesh(t, asks("{}"), mesh.WithAuthorizer("opa", external.AuthorizerFunc(nil)))
	h := &askedGuest{ask: func() {
		if err := m.Apply(context.Background(), []byte(policy("p", "{action: DENY, rules: [{}]}"))); err != nil {
			t.Error(err)
		}
	}}
	var s transport.Stay
	s.Arrival = guestArrival()
	if v := s.Enter(m.Engine(), h); v.Status != http.StatusForbidden {
		t.Errorf("%+v", v)
		s.Leave()
	}
}

// An askedGuest is one whom the authorizer lets in, after something else has happened.
type askedGuest struct {
	hungGuest
	ask func()
}

func (h *askedGuest) Ask(transport.Gate, *transport.Arrival, string) transport.Verdict {
	h.ask()
	return transport.Verdict{}
}

type hungGuest struct{ over chan struct{} }

func (h *hungGuest) Denied(*transport.Verdict) { close(h.over) }

func guestArrival() transport.Arrival {
	q := transport.Arrival{Request: authz.Request{Authority: "web", Request: &call.Request{Method: "GET", Path: "/", Headers: call.HTTPHeaders{"X-Role": {"guest"}}}}}
	q.Prepare()
	return q
}

func (h *hungGuest) Ask(transport.Gate, *transport.Arrival, string) transport.Verdict {
	return transport.Verdict{}
}
