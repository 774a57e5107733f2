package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

const (
	upgradeRequest = "GET /chat HTTP/1.1\r\nHost: reviews\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	upgradeAnswer  = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-Accept: yes\r\n\r\n"
)

// echo accepts a WebSocket when release is closed, and sends back in capitals what comes. early gets what
// had come before that.
func echo(t *testing.T, release <-chan struct{}, early chan<- int) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if h := req.Header; h.Get("Upgrade") != "websocket" || h.Get("Connection") != "Upgrade" || h.Get("Sec-Websocket-Key") != "eA==" {
			t.Errorf("the endpoint saw %v", h)
		}
		<-release
		if early != nil {
			early <- br.Buffered()
		}
		_, _ = io.WriteString(c, upgradeAnswer)
		buf := make([]byte, 64)
		for {
			n, err := br.Read(buf)
			_, _ = io.WriteString(c, strings.ToUpper(string(buf[:n])))
			if err != nil {
				_, _ = io.WriteString(c, "bye")
				return
			}
		}
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	release, early := make(chan struct{}), make(chan int, 1)
	r := start(t, service("reviews", "HTTP", raw(t, echo(t, release, early))), nil)
	c, br := dial(t, r.sidecar.OutboundAddr().String())
	send(t, c, upgradeRequest+"too early ") // bytes before the 101 wait for it
	close(release)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "websocket" ||
		resp.Header.Get("Sec-Websocket-Accept") != "yes" {
		t.Fatalf("%v, %v", resp, err)
	}
	if n := <-early; n != 0 {
		t.Errorf("%d bytes reached the endpoint before it had switched", n)
	}
	send(t, c, "hello")
	_ = c.(*net.TCPConn).CloseWrite() // the other direction goes on
	if got, err := io.ReadAll(br); err != nil || string(got) != "TOO EARLY HELLObye" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestUpgradeAndTimeout: the route's time-out ends the wait for the 101 and not the WebSocket, on the wire and where net/http
// sends the request.
// TestTunnelReset (D-036): an endpoint that is gone within a tunnel is not one that has ended it.
func TestTunnelReset(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{"on the wire": "", "by net/http": `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews}}], mirrors: [{destination: {host: reviews}, percentage: {value: 0}}]}]}
`} {
		sent := make(chan struct{})
		r := start(t, service("reviews", "HTTP", raw(t, func(c net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, upgradeAnswer+"hello")
			<-sent
			_ = c.(*net.TCPConn).SetLinger(0)
		}))+more, nil)
		c, br := dial(t, r.sidecar.OutboundAddr().String())
		send(t, c, upgradeRequest)
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %v, %v", name, resp, err)
		}
		if _, err := io.ReadFull(br, make([]byte, len("hello"))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		close(sent)
		if got, err := io.ReadAll(br); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %q, %v, want a reset", name, got, err)
		}
	}
}

func TestUpgradeAndTimeout(t *testing.T) {
	t.Parallel()
	for name, mirrors := range map[string]string{
		"on the wire": "", "by net/http": ", mirrors: [{destination: {host: reviews}, percentage: {value: 0}}]",
	} {
		for after, want := range map[time.Duration]string{0: "HTTP/1.1 101 ", time.Minute: "HTTP/1.1 504 "} {
			t.Run(name+" "+after.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { upgradeAfter(t, mirrors, after, want) })
			})
		}
	}
}

// upgradeAfter offers a WebSocket to an endpoint that thinks about it, by a rule with a time-out of two seconds.
func upgradeAfter(t *testing.T, mirrors string, after time.Duration, want string) {
	up, served := newMemoryListener("10.0.0.1:80"), make(chan struct{})
	go func() {
		defer close(served)
		c, err := up.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err != nil {
			t.Error(err)
			return
		}
		time.Sleep(after)
		_, _ = io.WriteString(c, upgradeAnswer)
		_, _ = io.Copy(c, br)
	}()
	m, err := mesh.New(t.Context(), mesh.WithDialer(up.dial), mesh.WithLogger(slog.New(slog.DiscardHandler)),
		mesh.WithConfig([]byte(service("reviews", "HTTP", "10.0.0.1:80")+`apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{timeout: 2s, route: [{destination: {host: reviews}}]`+mirrors+`}]}
`)))
	if err != nil {
		t.Fatal(err)
	}
	l := newMemoryListener("127.0.0.1:15001")
	s, err := proxy.Start(proxy.Config{Mesh: m, Outbound: "127.0.0.1:15001", Listen: func(string, string) (net.Listener, error) { return l, nil }})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := l.dial(t.Context(), "", "")
	_, _ = io.WriteString(c, upgradeRequest)
	br := bufio.NewReader(c)
	line, _ := br.ReadString('\n')
	if !strings.HasPrefix(line, want) {
		t.Errorf("%q, want %q", line, want)
	}
	if strings.Contains(line, " 101 ") {
		for line != "\r\n" && err == nil {
			line, err = br.ReadString('\n')
		}
		time.Sleep(time.Hour)
		_, _ = io.WriteString(c, "hello\n")
		if line, err = br.ReadString('\n'); line != "hello\n" {
			t.Errorf("an hour later: %q, %v", line, err)
		}
	}
	_ = c.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	_ = m.Close()
	_ = up.Close()
	<-served
}

// TestUpgradeDeclined: what follows an offer that was not taken is no request.
func TestUpgradeDeclined(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"200 OK", "403 Forbidden", "426 Upgrade Required"} {
		up := raw(t, func(c net.Conn, br *bufio.Reader) {
			for {
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				if req.URL.Path != "/chat" {
					t.Errorf("%s reached the endpoint", req.URL.Path)
				}
				_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 2\r\n\r\nno")
			}
		})
		r := start(t, service("reviews", "HTTP", up), nil)
		c, br := dial(t, r.sidecar.OutboundAddr().String())
		send(t, c, upgradeRequest+"GET /smuggled HTTP/1.1\r\nHost: reviews\r\n\r\n")
		resp, body := read(t, br, http.MethodGet)
		if resp.Status != status || body != "no" || !resp.Close {
			t.Errorf("%s: got %q %q, close %v", status, resp.Status, body, resp.Close)
		}
		if rest, _ := io.ReadAll(br); len(rest) > 0 {
			t.Errorf("%s: more answers: %q", status, rest)
		}
	}
}

// TestUpgradeToAnother: an endpoint does not choose the protocol.
func TestUpgradeToAnother(t *testing.T) {
	t.Parallel()
	for _, head := range []string{"Connection: Upgrade\r\nUpgrade: h2c\r\n", "Connection: Upgrade\r\n", "Upgrade: websocket\r\n", ""} {
		r := start(t, service("reviews", "HTTP", raw(t, answer("HTTP/1.1 101 Switching Protocols\r\n"+head+"\r\nraw"))), nil)
		resp, body := exchange(t, r.sidecar.OutboundAddr().String(), upgradeRequest)
		if resp.StatusCode != http.StatusBadGateway || strings.Contains(body, "raw") || !resp.Close {
			t.Errorf("%q: status %d, body %q, close %v", head, resp.StatusCode, body, resp.Close)
		}
	}
}

// TestUpgradeInbound: a WebSocket goes all the way from one sidecar to the application of another.
func TestUpgradeInbound(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	close(release)
	app := raw(t, echo(t, release, nil))
	behind := start(t, "", inboundOf(app))
	front := start(t, service("reviews", "HTTP", behind.sidecar.InboundAddrs()[0].String()), nil)
	c, br := dial(t, front.sidecar.OutboundAddr().String())
	send(t, c, upgradeRequest)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	send(t, c, "hello")
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(br); err != nil || string(got) != "HELLObye" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestTunnelsDrain: a shutdown waits for WebSockets as for requests, and cuts off those that are left.
func TestTunnelsDrain(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	close(release)
	for _, patient := range []bool{true, false} {
		r := start(t, "", inboundOf(raw(t, echo(t, release, nil))))
		c, br := dial(t, r.sidecar.InboundAddrs()[0].String())
		send(t, c, upgradeRequest)
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v, %v", resp, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		done := make(chan error, 1)
		go func() { done <- r.sidecar.Drain(ctx) }()
		send(t, c, "hello")
		buf := make([]byte, 5)
		if _, err := io.ReadFull(br, buf); err != nil || string(buf) != "HELLO" {
			t.Errorf("%q, %v", buf, err)
		}
		if patient {
			_ = c.(*net.TCPConn).CloseWrite()
			if err := <-done; err != nil {
				t.Errorf("drain: %v", err)
			}
			continue
		}
		cancel()
		if err := <-done; err == nil {
			t.Error("nothing was cut off")
		}
		if _, err := br.ReadByte(); err == nil {
			t.Error("the tunnel goes on")
		}
	}
}
