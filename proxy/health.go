package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/heddlemesh/mesh/transport/http1"
)

// The bounds of the health listener, which anybody may reach.
const (
	healthConns       = 256 // at a time; further ones are closed at once
	healthHeaderBytes = 8 << 10
	healthReadTimeout = 5 * time.Second
)

// openHealth opens the health listener: /healthz/ready, and the application's probes. Nothing else is there, and nothing that a
// request says decides where a probe goes.
func (s *Sidecar) openHealth() error {
	c := &s.config
	if c.Health == "" {
		return nil
	}
	l, err := c.Listen("tcp", c.Health)
	if err != nil {
		return fmt.Errorf("listen health %s: %w", c.Health, err)
	}
	srv := &server{name: "health", address: c.Health, l: newGentleListener(&cappedListener{Listener: l, most: healthConns})}
	srv.http.MaxHeaderBytes = healthHeaderBytes
	srv.http.ReadTimeout = healthReadTimeout
	srv.http.Protocols = new(http.Protocols)
	srv.http.Protocols.SetHTTP1(true)
	srv.http.SetKeepAlivesEnabled(false) // as the kubelet has it; a silent connection is no way to crowd others out
	srv.http.ErrorLog = slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", s.adminReady)
	for path, probe := range c.Probes {
		if err := s.probable(probe.port()); err != nil {
			_ = l.Close()
			return fmt.Errorf("probe %s: %w", path, err)
		}
		mux.Handle("GET "+path, s.answerProbe(&prober{probe: *probe}))
	}
	srv.http.Handler = mux
	s.health = srv
	return nil
}

// probable refuses ports of the sidecar's own but for those of inbound listeners, which stand for the application.
func (s *Sidecar) probable(port uint16) error {
	for _, srv := range s.servers() {
		own, err := netip.ParseAddrPort(srv.l.Addr().String())
		if err == nil && own.Port() == port && srv.app == nil {
			return fmt.Errorf("port %d is the sidecar's own %s listener", port, srv.name)
		}
	}
	return nil
}

// probed gives the application as a probe reaches it: behind the inbound listener of that port, which an application says its port is, else
// on this machine, at the address that the kubelet has called where connections are captured.
func (s *Sidecar) probed(port uint16, called net.Addr) *application {
	for _, in := range s.inbound {
		if own, err := netip.ParseAddrPort(in.l.Addr().String()); err == nil && own.Port() == port {
			return in.app
		}
	}
	at := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if tcp, ok := called.(*net.TCPAddr); ok && len(s.capturing("inbound")) > 0 {
		at = tcp.AddrPort().Addr().Unmap()
	}
	for _, srv := range s.capturing("inbound") {
		return srv.captor.application(netip.AddrPortFrom(at, port), netip.Addr{}, "")
	}
	return newApplication(net.JoinHostPort(at.String(), strconv.Itoa(int(port))))
}

// answerProbe serves one probe's path.
func (s *Sidecar) answerProbe(p *prober) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		agent := r.UserAgent()
		if !strings.HasPrefix(agent, "kube-probe/") {
			agent = "kube-probe/"
		}
		f, err := p.find(r.Context(), s.probed(p.probe.port(), called), agent)
		if err != nil {
			return // who asked has gone
		}
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(f.status)
		if r.Method != http.MethodHead {
			_, _ = w.Write(f.body)
		}
	})
}

// A cappedListener closes connections beyond a number at a time.
type cappedListener struct {
	net.Listener
	most int

	mu   sync.Mutex // guards what follows
	open int
}

// Accept implements net.Listener.
func (l *cappedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		full := l.open >= l.most
		if !full {
			l.open++
		}
		l.mu.Unlock()
		if !full {
			return &cappedConn{Conn: conn, leave: sync.OnceFunc(l.leave)}, nil
		}
		_ = conn.Close()
	}
}

// SetDeadline is the listener's own.
func (l *cappedListener) SetDeadline(t time.Time) error {
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		return d.SetDeadline(t)
	}
	return errors.ErrUnsupported
}

// wait waits until no connection is open any more, where nothing is accepted. Each has one answer.
func (l *cappedListener) wait(ctx context.Context) {
	check := time.NewTicker(time.Millisecond)
	defer check.Stop()
	for l.used() > 0 {
		select {
		case <-check.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *cappedListener) used() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

func (l *cappedListener) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
}

type cappedConn struct {
	net.Conn
	leave func()
	late  bool // what came too late was read; the reader's alone
}

// Read implements net.Conn. What waits when the time for it is over is read all the same, once: it is the process that stood still, and not
// who asks.
func (c *cappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.late || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return n, err
	}
	raw, failed := sc.SyscallConn()
	if failed != nil || !http1.Waiting(raw) || c.SetReadDeadline(time.Now().Add(healthReadTimeout)) != nil {
		return n, err
	}
	c.late = true
	return c.Conn.Read(b)
}

// Close implements net.Conn.
func (c *cappedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
