package conformance

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
)

// TestPolicyChangeUnderLoad: a DENY that is saved as a file while requests come without a pause lets in no request that begins
// when it is live, and one that is taken back keeps none out (attacks.md E-003). It logs how long a file took to be live, and to the
// last request that was let in; HEDDLE_POLICY_CHANGES says how many there are for each face, by default 4.
func TestPolicyChangeUnderLoad(t *testing.T) {
	t.Parallel()
	changes := 4
	if s := os.Getenv("HEDDLE_POLICY_CHANGES"); s != "" {
		var err error
		if changes, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write := func(number int, action string) time.Time {
				text := fmt.Sprintf("# %d\n%s", number, policy("p", "{action: "+action+", rules: [{}]}"))
				at := time.Now()
				if err := os.WriteFile(filepath.Join(dir, "p.new"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(filepath.Join(dir, "p.new"), filepath.Join(dir, "p.yaml")); err != nil {
					t.Fatal(err)
				}
				return at
			}
			write(0, "ALLOW")
			m := inboundMesh(t, "", mesh.WithConfigPath(dir))
			l := &load{url: "http://" + f.serve(t, m, new(recorder)) + "/", http2: f.http2}
			l.run(t)
			var live, last []time.Duration
			for n := range 2 * changes {
				action, status := "DENY", http.StatusForbidden
				if n%2 == 1 {
					action, status = "ALLOW", http.StatusOK
				}
				before := m.Status().Version
				l.want.Store(0)
				at := write(n+1, action)
				for m.Status().Version == before {
					time.Sleep(time.Millisecond)
				}
				took := time.Since(at)
				l.want.Store(int64(1000*(n+1) + status))
				l.await(t, 20)
				if action == "DENY" {
					l.mu.Lock()
					live, last = append(live, took), append(last, l.allowed.Sub(at))
					l.mu.Unlock()
				}
			}
			l.stop()
			t.Logf("%d changes: a file is live after %s, p99 %s; the last request is let in after %s, p99 %s; %d requests", changes,
				quantile(live, 50), quantile(live, 99), quantile(last, 50), quantile(last, 99), l.count.Load())
		})
	}
}

func quantile(list []time.Duration, percent int) time.Duration {
	slices.Sort(list)
	return list[(len(list)*percent-1)/100].Round(100 * time.Microsecond)
}

// A load is clients that ask without a pause.
type load struct {
	url     string
	http2   bool
	want    atomic.Int64 // the status of requests that begin now, with a thousand for each change; 0 for any
	count   atomic.Int64
	stop    func()
	mu      sync.Mutex
	allowed time.Time // when a request began that was let in, the last one; guarded by mu
}

func (l *load) run(t *testing.T) {
	ended, running := make(chan struct{}), new(sync.WaitGroup)
	l.stop = sync.OnceFunc(func() { close(ended); running.Wait() })
	t.Cleanup(l.stop)
	for range 4 {
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
		if l.http2 {
			client.Transport = http2Client()
		}
		running.Go(func() {
			defer client.CloseIdleConnections()
			for {
				select {
				case <-ended:
					return
				default:
				}
				if err := l.once(client); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
}

func (l *load) once(client *http.Client) error {
	want, began := l.want.Load(), time.Now()
	resp, err := client.Get(l.url)
	if err != nil {
		return nil //nolint:nilerr // a change has cut it off, or the connection that it came upon
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		l.mu.Lock()
		if began.After(l.allowed) {
			l.allowed = began
		}
		l.mu.Unlock()
	}
	if want != 0 && want == l.want.Load() && int64(resp.StatusCode) != want%1000 {
		return fmt.Errorf("a request that begins when the change is live is answered %d, want %d", resp.StatusCode, want%1000)
	}
	l.count.Add(1)
	return nil
}

// await returns when so many requests more have ended.
func (l *load) await(t *testing.T, n int64) {
	t.Helper()
	limit := time.Now().Add(time.Minute)
	for until := l.count.Load() + n; l.count.Load() < until && !t.Failed(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("no request is answered any more")
		}
	}
}
