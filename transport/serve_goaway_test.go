package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/heddlemesh/mesh/internal/memory"
)

// TestShutdownGoesAwayTwice (RFC 9113 §6.8): a connection of HTTP/2, with TLS and without, hears a GOAWAY that leaves no stream out, and until it
// has answered the PING behind it what it asks is served, also where no stream is left in between; then one that names the last of them.
// Who does not answer has a second.
func TestShutdownGoesAwayTwice(t *testing.T) { eachMode(t, testShutdownGoesAwayTwice) }

func testShutdownGoesAwayTwice(t *testing.T, opts ...InboundOption) {
	t.Parallel()
	pages := httptest.NewUnstartedServer(nil)
	pages.StartTLS()
	t.Cleanup(pages.Close)
	for _, secured := range []bool{false, true} {
		for _, answers := range []bool{true, false} {
			t.Run(map[bool]string{false: "h2c", true: "TLS"}[secured]+map[bool]string{false: ", no answer"}[answers], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					options := slices.Clone(opts)
					if secured {
						options = append(options, WithAppTLS(&tls.Config{MinVersion: tls.VersionTLS12, Certificates: pages.TLS.Certificates, NextProtos: []string{"h2"}}))
					}
					goesAwayTwice(t, options, secured, answers)
				})
			})
		}
	}
}

func goesAwayTwice(t *testing.T, opts []InboundOption, secured, answers bool) {
	in := inbound(t)
	l := memory.Listen(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "over") })}
	ended := make(chan error, 1)
	go func() { ended <- in.Serve(srv, l, opts...) }()
	conn, err := l.Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if secured {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	frames := make(chan http2.Frame)
	out := make(chan func(*http2.Framer))
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	go func() { // a pipe holds nothing
		_, _ = io.WriteString(conn, http2.ClientPreface)
		_ = f.WriteSettings()
		for write := range out {
			write(f)
		}
	}()
	go func() {
		defer close(frames)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.GoAwayFrame, *http2.MetaHeadersFrame:
				frames <- frame
			case *http2.PingFrame:
				frames <- &http2.PingFrame{Data: frame.Data}
			}
		}
	}()
	ask := func(id uint32) {
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		out <- func(f *http2.Framer) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
		}
		if head, ok := (<-frames).(*http2.MetaHeadersFrame); !ok || head.StreamID != id || head.PseudoValue("status") != "200" {
			t.Errorf("stream %d is answered %v", id, head)
		}
	}
	ask(1)
	begun := time.Now()
	done := make(chan error, 1)
	go func() { done <- in.Shutdown(context.WithoutCancel(t.Context())) }()
	if first, ok := (<-frames).(*http2.GoAwayFrame); !ok || first.LastStreamID != 1<<31-1 || first.ErrCode != http2.ErrCodeNo {
		t.Errorf("the first GOAWAY is %v", first)
	}
	ping, ok := (<-frames).(*http2.PingFrame)
	if !ok {
		t.Error("no PING")
	}
	ask(3)
	ask(5)
	if answers {
		out <- func(f *http2.Framer) { _ = f.WritePing(true, ping.Data) }
	}
	second, ok := (<-frames).(*http2.GoAwayFrame)
	if !ok || second.LastStreamID != 5 || second.ErrCode != http2.ErrCodeNo {
		t.Errorf("the second GOAWAY is %v", second)
	}
	if took := time.Since(begun); answers != (took < time.Second) {
		t.Errorf("it comes after %v", took)
	}
	for range frames {
		t.Error("something comes behind it")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve gives %v", err)
	}
	close(out)
	_ = conn.Close()
}
