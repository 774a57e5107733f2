package mesh_test

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

// A load is clients that call one server all the time.
type load struct {
	mu     sync.Mutex // guards failed
	failed []error
	asked  atomic.Int64
	stop   func()
}

// newLoad has each client make calls, so many at a time, that are under way for a tenth of a second.
func newLoad(t *testing.T, protocol string, atATime int, server identity.Source, clients ...identity.Source) *load {
	t.Helper()
	l := new(load)
	end := make(chan struct{})
	var running sync.WaitGroup
	slow := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(100 * time.Millisecond)
		who(w, r)
	}
	for i, m := range meshes(t, protocol, slow, server, clients...) {
		for range atATime {
			running.Go(func() {
				for {
					select {
					case <-end:
						return
					default:
						l.ask(i, m)
					}
				}
			})
		}
	}
	l.stop = sync.OnceFunc(func() {
		close(end)
		running.Wait()
	})
	t.Cleanup(l.stop)
	return l
}

func (l *load) ask(client int, m *mesh.Mesh) {
	l.asked.Add(1)
	resp, err := m.Client().Post("http://server/", "text/plain", http.NoBody) // which nobody sends twice
	if err == nil {
		var body []byte
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
		}
	}
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.failed = append(l.failed, fmt.Errorf("%s, client %d: %w", time.Now().Format("04:05.000"), client, err))
	}
}

// TestRotationUnderLoad is row C-023 with calls under way all the time: a root is replaced with overlap, and server and
// clients hear of each step in any of six orders. No call fails, of POST, which is not repeated.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"HTTP", "HTTP2"} {
		for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			t.Run(fmt.Sprint(protocol, order), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { rotateUnderLoad(t, protocol, order) })
			})
		}
	}
}

func rotateUnderLoad(t *testing.T, protocol string, order [3]int) {
	const life, apart = 20 * time.Second, time.Second
	a, err := ca.New(trustDomain, ca.Options{Life: life})
	if err != nil {
		t.Fatal(err)
	}
	var hands [3]*handed
	hand := func(i int) {
		m, err := a.Issue(workloadID(t, []string{"server", "client", "client"}[i]))
		if err != nil {
			t.Fatal(err)
		}
		hands[i].news <- m
	}
	for i := range hands {
		hands[i] = &handed{news: make(chan *identity.Material, 1)}
		hand(i)
	}
	l := newLoad(t, protocol, 2, hands[0], hands[1], hands[2])
	none := func() error { return nil }
	for _, step := range []struct {
		do    func() error
		after time.Duration // until the next one
	}{
		{none, 0}, {a.AddRoot, 0}, {a.RotateIssuing, life / 3},
		{none, life / 2}, // SVIDs that the old root stands for come to their end
		{a.DropRoots, 3 * time.Second},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		for _, i := range order {
			hand(i)
			time.Sleep(apart)
		}
		time.Sleep(step.after)
	}
	l.stop()
	if asked := l.asked.Load(); len(l.failed) > 0 || asked < 500 {
		t.Errorf("%d of %d calls failed", len(l.failed), asked)
		for _, err := range l.failed[:min(len(l.failed), 5)] {
			t.Log(err)
		}
	}
	t.Logf("%d calls, %d failed", l.asked.Load(), len(l.failed))
}
