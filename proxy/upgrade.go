package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/internal/socket"
)

// upgradeOf gives the protocol that a request asks to switch to, of those that are tunnelled: WebSocket
// alone, as in Istio's sidecars. Every other offer is taken off, h2c most of all, behind which further
// requests would pass unseen; the request itself goes on (RFC 9110 §7.8).
func upgradeOf(r *http.Request) string {
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 || r.Method != http.MethodGet || r.ContentLength != 0 {
		return ""
	}
	offers := r.Header["Upgrade"]
	if len(offers) != 1 || !strings.EqualFold(strings.TrimSpace(offers[0]), "websocket") || !listed(r.Header["Connection"], "upgrade") {
		return ""
	}
	return "websocket"
}

// switches reports whether an answer takes the offer, and that one.
func switches(h http.Header, protocol string) bool {
	taken := h["Upgrade"]
	return protocol != "" && len(taken) == 1 && strings.EqualFold(strings.TrimSpace(taken[0]), protocol) &&
		listed(h["Connection"], "upgrade")
}

// tunnel joins client and endpoint after a 101 until both directions have ended, or one has failed.
func (f *forwarder) tunnel(w http.ResponseWriter, r *http.Request, resp *http.Response, protocol string) {
	endpoint, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || !switches(resp.Header, protocol) {
		closeAfter(w, r)
		f.reply(w, r, LocalReply{Status: http.StatusBadGateway, Flag: "UPE", Reason: "unexpected_upgrade",
			Text: "upstream switched protocols unasked"})
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		f.reply(w, r, LocalReply{Status: http.StatusInternalServerError, Flag: "-", Reason: "hijack", Err: err,
			Text: "the connection cannot be taken over"})
		return
	}
	defer conn.Close()
	if !f.tunnels.add(conn) {
		return
	}
	defer f.tunnels.remove(conn)
	if err := writeSwitch(buffered.Writer, resp.Header, protocol); err != nil {
		return
	}
	client, server := f.tunnels.webSocket(conn, endpoint)
	var wg sync.WaitGroup
	// What the client sent too early is in the reader; it reaches the endpoint now and not before.
	wg.Go(func() { pump(server, buffered.Reader, conn) })
	wg.Go(func() { pump(client, endpoint, endpoint) })
	wg.Wait()
}

// writeSwitch writes the head of a 101 answer.
func writeSwitch(w *bufio.Writer, h http.Header, protocol string) error {
	head := make(http.Header, len(h))
	copyResponseHeader(head, h)
	delete(head, "Content-Length")
	_, _ = w.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n")
	if err := head.Write(w); err != nil {
		return err
	}
	_, _ = w.WriteString("\r\n")
	return w.Flush()
}

// pump copies one direction between what need not be connections.
func pump(dst io.WriteCloser, src io.Reader, from io.Closer) {
	_, err := io.Copy(dst, src)
	endFlow(dst, from, err)
}

// resetAtClose has a connection of the system's end with RST, below TLS and without its farewell.
func resetAtClose(c io.Closer) {
	if side, ok := c.(*webSocketSide); ok {
		c = side.to
	}
	conn, ok := c.(net.Conn)
	if !ok {
		return
	}
	conn = socket.Beneath(conn)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	if conn != c {
		_ = conn.Close()
	}
}

// tunnels are the connections taken over from the server, which its Shutdown knows nothing of.
type tunnels struct {
	mu     sync.Mutex          // guards what follows
	open   map[net.Conn]func() // how both ends are told that it ends, nil as long as nobody can be told
	closed bool
	empty  chan struct{} // made by drain, closed by the last
}

func (t *tunnels) add(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.open == nil {
		t.open = make(map[net.Conn]func())
	}
	t.open[c] = nil
	return true
}

// webSocket gives the ends of a tunnel that was added, as they are to be written to.
func (t *tunnels) webSocket(c net.Conn, endpoint io.WriteCloser) (client, server *webSocketSide) {
	client, server = &webSocketSide{to: c}, &webSocketSide{to: endpoint, server: true}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[c] = func() {
		go server.farewell() // who does not read is not waited for: its connection is closed soon
		go client.farewell()
	}
	return client, server
}

func (t *tunnels) remove(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
	if len(t.open) == 0 && t.empty != nil {
		close(t.empty)
		t.empty = nil
	}
}

func (t *tunnels) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

var errTunnelsCut = errors.New("tunnels were cut off")

// farewellTime is how long the ends of a WebSocket may take to hear that it ends.
const farewellTime = time.Second

// drain waits until no tunnel is left; when ctx ends it has those that are end with 1001, and closes what then is left.
func (t *tunnels) drain(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	if len(t.open) == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.empty == nil {
		t.empty = make(chan struct{})
	}
	empty := t.empty
	t.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	for _, farewell := range t.open {
		if farewell != nil {
			farewell()
		}
	}
	t.mu.Unlock()
	late := time.NewTimer(farewellTime)
	defer late.Stop()
	select {
	case <-empty:
		return errTunnelsCut
	case <-late.C:
	}
	t.mu.Lock()
	for c := range t.open {
		_ = c.Close()
	}
	t.mu.Unlock()
	return errTunnelsCut
}
