//go:build unix

package cli

import (
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// beginnings are how far who says too little goes: nothing, a byte that could begin HTTP/2, half a head, and a handshake's first bytes.
var beginnings = []string{"", "P", "GET / HTTP/1.1\r\nHo", "\x16\x03\x01\x02\x00\x01"}

// TestLifeSilent: thousands that say next to nothing, and come again when they are closed, keep nobody from being served, and are closed
// (B-050). make life has 4,000, and waits for the end of each.
func TestLifeSilent(t *testing.T) {
	t.Parallel()
	n := times(t, "HEDDLE_LIFE_SILENT", 100)
	id := filepath.Join(t.TempDir(), "id")
	if r := heddle(t, "", "ca", "sign", caDir(t), "default/ratings", "--out", id); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	p := spawn(t, nil, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1"), "--svid", filepath.Join(id, "svid.pem"), "--svid-key", filepath.Join(id, "key.pem"),
		"--svid-bundle", filepath.Join(id, "bundle.pem"), "--inbound", loopback.Free(t) + "=" + upstreamOf(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))}, apart)...)
	at := p.addresses()["inbound"]
	requests := max(n, 1000)
	alone, _ := percentile(t, at, requests)
	var silent sync.WaitGroup
	var held, closed atomic.Int64
	var stopping atomic.Bool
	stop := make(chan struct{})
	for i := range n {
		silent.Go(func() {
			said := beginnings[i%len(beginnings)]
			for first := true; !stopping.Load(); first = false {
				c, err := net.Dial("tcp", at)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(c, said)
				if first {
					held.Add(1)
				}
				if n < 1000 { // nobody waits ten seconds here
					<-stop
				} else if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
					t.Error(err)
				} else if first {
					closed.Add(1)
				}
				_ = c.Close()
				select {
				case <-stop:
				case <-time.After(time.Second): // they are to be silent, not to knock
				}
			}
		})
	}
	for held.Load() < int64(n) {
		<-time.After(time.Millisecond)
	}
	beside, lost := percentile(t, at, requests)
	if lost > int64(requests/1000) {
		t.Errorf("%d of %d requests were lost", lost, requests)
	}
	if n >= 1000 {
		for closed.Load() < int64(n) {
			<-time.After(10 * time.Millisecond)
		}
	}
	stopping.Store(true)
	close(stop)
	silent.Wait()
	t.Logf("%d requests beside %d connections that say too little, each of %d that were waited for closed: %d lost, p99 %s; without them %s: %.1f times", requests, n, closed.Load(), lost,
		beside.Round(10*time.Microsecond), alone.Round(10*time.Microsecond), float64(beside)/float64(alone))
}

// percentile makes requests, half of them on connections of their own, and gives the 99th percentile of the times of those that were answered, and
// how many were not.
func percentile(t *testing.T, address string, n int) (p99 time.Duration, lost int64) {
	t.Helper()
	const callers = 4
	var all sync.WaitGroup
	var failed atomic.Int64
	took := make([][]time.Duration, callers)
	for i := range took {
		all.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%2 == 0}
			defer tr.CloseIdleConnections()
			for range n / callers {
				began := time.Now()
				resp, err := (&http.Client{Transport: tr}).Get("http://" + address + "/")
				if err != nil {
					failed.Add(1)
					continue
				}
				_ = resp.Body.Close()
				if took[i] = append(took[i], time.Since(began)); resp.StatusCode != http.StatusOK {
					t.Error(resp.Status)
				}
			}
		})
	}
	all.Wait()
	sorted := slices.Concat(took...)
	slices.Sort(sorted)
	if len(sorted) == 0 {
		t.FailNow()
	}
	return sorted[len(sorted)*99/100], failed.Load()
}
