package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const remoteKeys = `apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: r}
spec:
  jwtRules: [{issuer: a, jwksUri: 'http://issuer.test/jwks', timeout: 60s}]
`

// issue answers one request with a JWKS.
func issue(c net.Conn) {
	defer c.Close()
	if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
		return
	}
	text := `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	_, _ = io.WriteString(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text))
}

// TestKeysAreTold: the log says once that keys cannot be fetched, as long as they count and when they do not, and when they are.
func TestKeysAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j, log := newJournal()
		var down atomic.Bool
		down.Store(true)
		r, err := New(t.Context(), Options{Logger: log, Inline: [][]byte{[]byte(remoteKeys)}, Dial: func(context.Context, string, string) (net.Conn, error) {
			if down.Load() {
				return nil, errors.New("nobody is there")
			}
			c, s := net.Pipe()
			go issue(s)
			return c, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		j.next(t, "level=ERROR", "cannot be fetched: the tokens are refused", "source=http://issuer.test/jwks", "nobody is there")
		j.next(t, "configuration live")
		j.next(t, "finding", "come by http")
		down.Store(false)
		time.Sleep(10 * time.Second)
		j.next(t, "level=INFO", "keys of tokens fetched", "keys=1")
		down.Store(true)
		time.Sleep(50 * time.Minute)
		j.next(t, "level=WARN", "the last good ones count for now", "until=")
		time.Sleep(20 * time.Minute)
		j.next(t, "level=ERROR", "the tokens are refused")
		j.nothing(t)
		r.Close()
		time.Sleep(time.Hour)
		j.nothing(t)
	})
}

// TestKeysHoldNobodyUp: an issuer that does not answer delays New and Apply by 5 s, whatever its time-out is, and only where it
// is new; after Close nothing of it is left, which the bubble sees.
func TestKeysHoldNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, log := newJournal()
		silent := func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		var all []*Runtime
		for range 3 {
			began := time.Now()
			r, err := New(t.Context(), Options{Logger: log, Inline: [][]byte{[]byte(remoteKeys)}, Dial: silent})
			if err != nil {
				t.Fatal(err)
			}
			if d := time.Since(began); d != 5*time.Second {
				t.Errorf("New took %v", d)
			}
			began = time.Now()
			if err := r.Apply(t.Context(), []byte(remoteKeys), []byte(service("a", static))); err != nil || time.Since(began) != 0 {
				t.Errorf("Apply took %v: %v", time.Since(began), err)
			}
			if keys := r.Keys(); len(keys) != 1 || keys[0].Keys != 0 {
				t.Errorf("%+v", keys)
			}
			all = append(all, r)
		}
		for _, r := range all {
			r.Close()
		}
	})
}
