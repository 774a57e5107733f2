package grpcmesh_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/proxy"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// An attacker writes frames of its own to a server.
type attacker struct {
	net.Conn
	*http2.Framer
	out bytes.Buffer
	enc *hpack.Encoder
}

func attack(t *testing.T, addr string, settings ...http2.Setting) *attacker {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	a := &attacker{Conn: c, Framer: http2.NewFramer(c, c)}
	a.AllowIllegalWrites, a.ReadMetaHeaders = true, hpack.NewDecoder(4096, nil)
	a.enc = hpack.NewEncoder(&a.out)
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := a.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return a
}

// ask sends the head of an RPC, with further fields, and its message, as it is on the wire, unless that is nil. The
// server may have hung up by then.
func (a *attacker) ask(id uint32, message []byte, kv ...string) {
	a.out.Reset()
	fields := slices.Concat([]string{":method", "POST", ":scheme", "http", ":path", who, ":authority", "echo:9080",
		"content-type", "application/grpc", "te", "trailers"}, kv)
	for i := 0; i < len(fields); i += 2 {
		_ = a.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.out.Bytes(), EndHeaders: true, EndStream: message == nil})
	for len(message) > 0 {
		part := message[:min(len(message), 16<<10)]
		message = message[len(part):]
		if a.WriteData(id, len(message) == 0, part) != nil {
			return
		}
	}
}

// hears reads until the stream has ended, and says how.
func (a *attacker) hears(id uint32) string {
	plain := ""
	for {
		f, err := a.ReadFrame()
		if err != nil {
			return "gone"
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID != id {
				continue
			}
			for _, h := range f.Fields {
				if h.Name == "grpc-status" {
					return "status " + h.Value
				}
			}
			if plain = "HTTP " + f.PseudoValue("status"); f.StreamEnded() {
				return plain
			}
		case *http2.DataFrame:
			if f.StreamID == id && f.StreamEnded() {
				return plain
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return f.ErrCode.String()
			}
		}
	}
}

// front gives the addresses of an echo as callers reach it: by itself, on a port shared with HTTP, and behind a sidecar.
func front(t *testing.T) (faces map[string]string, ran func() int64) {
	t.Helper()
	own := start(t, "own", grpcmesh.ServerOptions(newMesh(t, ""))...)
	common := startShared(t, "")
	app := start(t, "app")
	side, err := proxy.Start(proxy.Config{Mesh: newMesh(t, ""), Inbound: []proxy.Inbound{{Listen: "127.0.0.1:0", App: app.addr}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = side.Shutdown(ctx)
	})
	return map[string]string{"server": own.addr, "shared port": common.addr, "sidecar": side.InboundAddrs()[0].String()},
		func() int64 { return own.calls.Load() + common.calls.Load() + app.calls.Load() }
}

// framedMessage is a message with the flag and length that go before it on the wire.
func framedMessage(flag byte, length uint32, body string) []byte {
	return append([]byte{flag, byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)}, body...)
}

// TestMalformedRPCs (B-069): what is not as gRPC has it ends in a status or an error of HTTP/2, and the method does not run.
func TestMalformedRPCs(t *testing.T) {
	t.Parallel()
	empty := framedMessage(0, 0, "")
	faces, ran := front(t)
	for _, row := range []struct {
		name    string
		header  []string
		message []byte
		want    []string
		runs    bool
	}{
		{name: "as it should be", message: empty, want: []string{"status 0"}, runs: true},
		{name: "the longest time-out", header: []string{"grpc-timeout", "99999999H"}, message: empty, want: []string{"status 0"}, runs: true},
		{name: "too many digits", header: []string{"grpc-timeout", "123456789H"}, message: empty, want: []string{"status 13", "HTTP 400"}},
		{name: "a negative time-out", header: []string{"grpc-timeout", "-1S"}, message: empty, want: []string{"status 13", "HTTP 400"}},
		{name: "no time-out", header: []string{"grpc-timeout", "soon"}, message: empty, want: []string{"status 13", "HTTP 400"}},
		{name: "bad base64", header: []string{"x-bin", "!!!"}, message: empty, want: []string{"status 13", "HTTP 400"}},
		{name: "metadata that is no text", header: []string{"x-own", "\xff\xfe"}, message: empty, want: []string{"status 0", "status 13"}, runs: true},
		{name: "a status of the caller's", header: []string{"grpc-status", "7", "grpc-message", "no"}, message: empty, want: []string{"status 0"}, runs: true},
		{name: "no message", want: []string{"status 13"}},
		{name: "a message that is cut off", message: framedMessage(0, 10, "x"), want: []string{"status 13"}},
		{name: "the longest message", message: framedMessage(0, 1<<32-1, "x"), want: []string{"status 8"}},
		{name: "five megabytes", message: framedMessage(0, 5<<20, strings.Repeat("x", 32<<10)), want: []string{"status 8"}},
		{name: "compressed by nothing", message: framedMessage(1, 1, "x"), want: []string{"status 13", "status 12"}},
		{name: "a flag that is none", message: framedMessage(7, 0, ""), want: []string{"status 13"}},
	} {
		for face, addr := range faces {
			t.Run(row.name+", "+face, func(t *testing.T) {
				before := ran()
				a := attack(t, addr)
				a.ask(1, row.message, row.header...)
				if got := a.hears(1); !slices.Contains(row.want, got) {
					t.Errorf("got %s, want one of %q", got, row.want)
				}
				if n := ran() - before; n > 1 || n == 1 && !row.runs {
					t.Errorf("the method ran %d times", n)
				}
			})
		}
	}
}

// TestGamesWithStreams (B-079): numbers of streams that cannot be end the connection, a GOAWAY of the caller's says nothing about its
// own streams, and other connections hear of none of it.
func TestGamesWithStreams(t *testing.T) {
	t.Parallel()
	empty := framedMessage(0, 0, "")
	faces, _ := front(t)
	ok := []string{"status 0"}
	refused := []string{http2.ErrCodeProtocol.String(), http2.ErrCodeStreamClosed.String(), "gone"}
	for _, row := range []struct {
		name string
		play func(a *attacker) (id uint32)
		want []string
	}{
		{"GOAWAY, then a stream", func(a *attacker) uint32 {
			_ = a.WriteGoAway(0, http2.ErrCodeNo, nil)
			a.ask(1, empty)
			return 1
		}, append(slices.Clone(ok), "gone")},
		{"no streams of the server's, GOAWAY, then a stream", func(a *attacker) uint32 {
			_ = a.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
			_ = a.WriteGoAway(0, http2.ErrCodeNo, nil)
			a.ask(1, empty)
			return 1
		}, append(slices.Clone(ok), "gone")},
		{"a jump", func(a *attacker) uint32 {
			a.ask(1, empty)
			a.hears(1)
			a.ask(9001, empty)
			return 9001
		}, ok},
		{"a step back", func(a *attacker) uint32 {
			a.ask(101, empty)
			a.hears(101)
			a.ask(3, empty)
			return 3
		}, refused},
		{"the same again", func(a *attacker) uint32 {
			a.ask(1, empty)
			a.hears(1)
			a.ask(1, empty)
			return 1
		}, refused},
		{"an even number", func(a *attacker) uint32 {
			a.ask(2, empty)
			return 2
		}, refused},
		{"the connection itself", func(a *attacker) uint32 {
			a.ask(0, empty)
			return 0
		}, refused},
	} {
		for face, addr := range faces {
			t.Run(fmt.Sprint(row.name, ", ", face), func(t *testing.T) {
				a := attack(t, addr)
				if got := a.hears(row.play(a)); !slices.Contains(row.want, got) {
					t.Errorf("got %s, want one of %q", got, row.want)
				}
				other := attack(t, addr)
				if other.ask(1, empty); other.hears(1) != "status 0" {
					t.Error("another connection is not served")
				}
			})
		}
	}
}

// TestUnknownMethods (B-068): who passes on methods that it does not have is not given one that a rule denies, however it is spelt.
func TestUnknownMethods(t *testing.T) {
	t.Parallel()
	config := policyOf("deny", "{action: DENY, rules: [{to: [{operation: {paths: [/pkg.Service/Method]}}]}]}") + policyOf("allow", "{rules: [{}]}")
	ran := make(chan string, 1)
	e := newEcho("e", append(grpcmesh.ServerOptions(newMesh(t, config)), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		ran <- method
		return s.SendMsg(text("passed on"))
	}))...)
	cc := plain(t, startAt(t, "127.0.0.1:0", e).addr)
	for path, allowed := range map[string]bool{"/pkg.Service/Method": false, "/pkg.Service/%4dethod": false, "/pkg.Service/Me%74hod": false,
		"//pkg.Service/Method": false, "/pkg.Service//Method": false, "/pkg.Service/./Method": false, "/x/../pkg.Service/Method": false, "/pkg.Service/Method#x": false, "/pkg.Service/Method?x": false,
		"/pkg.Service/Method/": true, "/PKG.Service/Method": true, "/pkg.Service/Other": true} {
		_, err := ask(t.Context(), cc, path)
		select {
		case method := <-ran:
			if !allowed || err != nil || method != path {
				t.Errorf("%s is passed on as %s: %v", path, method, err)
			}
		default:
			if allowed || status.Code(err) != codes.PermissionDenied && status.Code(err) != codes.Internal {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}
