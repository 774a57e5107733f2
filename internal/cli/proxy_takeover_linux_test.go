package cli

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// TestLifeTakeover: under load, one process after the other takes the listeners over, and nobody is refused, reset or answered wrongly
// (E-008). make life has it 50 times.
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
		"--takeover", filepath.Join(dir, "socket"), "--drain-timeout", "1h"}, apart)
	old := spawn(t, nil, args...)
	at := old.addresses()
	ready := newCrowd(t, "http://"+at["health"]+"/healthz/ready", 2, 0)
	c := newCrowd(t, "http://"+inbound+"/x", 3, 0)
	for range n {
		c.hasAnswers(200)
		next := spawn(t, nil, args...)
		if now := next.addresses(); now["outbound"] != at["outbound"] || now["admin"] != at["admin"] {
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
	for _, crowd := range []*crowd{c, ready} {
		close(crowd.stop)
		crowd.running.Wait()
		if crowd.lost.Load()+crowd.refused.Load() > 0 {
			t.Errorf("%d lost, %d refused", crowd.lost.Load(), crowd.refused.Load())
		}
	}
	t.Logf("%d times taken over: %d requests answered, %d refused, %d lost; %d of the health listener's", n, c.answered.Load(), c.refused.Load(), c.lost.Load(), ready.answered.Load())
}
