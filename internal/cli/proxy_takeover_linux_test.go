package cli

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// TestLifeTakeover: under load, one process after the other takes the listeners over, and nobody is refused, reset or answered wrongly,
// nor is a name (E-008). make life has it 50 times.
func TestLifeTakeover(t *testing.T) {
	t.Parallel()
	n := times(t, "HEDDLE_LIFE_TAKEOVERS", 3)
	app := upstreamOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }))
	dir, err := os.MkdirTemp("", "to") //nolint:usetesting // t.TempDir's names are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	inbound := loopback.Free(t)
	args := slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1"), "--inbound", inbound + "=" + app, "--health", loopback.Free(t),
		"--takeover", filepath.Join(dir, "socket"), "--drain-timeout", "1h", "--dns", "127.0.0.1:0"}, apart)
	old := spawn(t, nil, args...)
	at := old.addresses()
	ready := newCrowd(t, "http://"+at["health"]+"/healthz/ready", 2, 0)
	c := newCrowd(t, "http://"+inbound+"/x", 3, 0)
	queries := newQueries(t, at["dns"])
	for range n {
		c.hasAnswers(200)
		queries.hasAnswers(50)
		next := spawn(t, nil, args...)
		if now := next.addresses(); now["outbound"] != at["outbound"] || now["admin"] != at["admin"] || now["dns"] != at["dns"] {
			t.Errorf("it listens at %v, where %v was", now, at)
		}
		old.until("a successor has the listeners")
		if code := old.code(); code != exitOK {
			t.Errorf("exit code %d: %s", code, old.said())
		}
		old = next
	}
	c.hasAnswers(200)
	// One that cannot start leaves everything as it is.
	r := heddle(t, "", slices.Concat([]string{"proxy"}, args, []string{"--inbound", "127.0.0.1:0=" + inbound})...)
	if r.code != exitFailed || !strings.Contains(r.stderr, "is the sidecar's own inbound listener") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	old.until("nobody has taken over")
	c.hasAnswers(200)
	ready.hasAnswers(20)
	queries.hasAnswers(50)
	for _, crowd := range []*crowd{c, ready, queries} {
		close(crowd.stop)
		crowd.running.Wait()
		if crowd.lost.Load()+crowd.refused.Load() > 0 {
			t.Errorf("%d lost, %d refused", crowd.lost.Load(), crowd.refused.Load())
		}
	}
	t.Logf("%d times taken over: %d requests answered, %d refused, %d lost; %d of the health listener's, and %d names", n, c.answered.Load(), c.refused.Load(), c.lost.Load(), ready.answered.Load(), queries.answered.Load())
}

// newQueries is a crowd that asks for the address of ratings, by UDP from one port and from many, and by TCP, each query once.
func newQueries(t *testing.T, at string) *crowd {
	query, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{
		{Name: dnsmessage.MustNewName("ratings.default.svc.cluster.local."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, stop: make(chan struct{})}
	c.running.Go(func() {
		conn, err := net.Dial("udp", at)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		c.asks(func() error { return askOn(conn, query) })
	})
	for _, network := range []string{"udp", "tcp"} {
		c.running.Go(func() {
			c.asks(func() error {
				conn, err := net.Dial(network, at)
				if err != nil {
					return err
				}
				defer conn.Close()
				return askOn(conn, query)
			})
		})
	}
	return c
}

// asks asks until it is to stop, or something is lost.
func (c *crowd) asks(ask func() error) {
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		if err := ask(); err != nil {
			c.lost.Add(1)
			c.t.Errorf("a query after %d answers: %v", c.answered.Load(), err)
			return
		}
		c.answered.Add(1)
	}
}

// askOn sends a query and wants an address for its answer. The limit is for one that never comes.
func askOn(conn net.Conn, query []byte) error {
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	framed := conn.RemoteAddr().Network() == "tcp"
	if framed {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return err
	}
	b := make([]byte, 512)
	n, err := conn.Read(b)
	if err != nil {
		return err
	}
	if framed {
		b, n = b[2:], n-2
	}
	var m dnsmessage.Message
	if err := m.Unpack(b[:max(n, 0)]); err != nil {
		return err
	}
	if m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 1 {
		return fmt.Errorf("answered %s with %d addresses", m.RCode, len(m.Answers))
	}
	return nil
}
