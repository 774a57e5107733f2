package goaway

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestForgotten: connections are told of while they last, with TLS and without, and nothing is kept of those that have ended.
func TestForgotten(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*httptest.Server){"without TLS": (*httptest.Server).Start, "TLS": (*httptest.Server).StartTLS} {
		var g Goodbyes
		known := func() int {
			g.mu.Lock()
			defer g.mu.Unlock()
			return len(g.conns)
		}
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 || known() != 1 {
				t.Errorf("%s: %s, %d connections", name, r.Proto, known())
			}
		}))
		srv.EnableHTTP2 = true
		srv.Config.Protocols = new(http.Protocols)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
		srv.Config.Protocols.SetHTTP2(true)
		g.Attach(srv.Config)
		start(srv)
		tr := &http.Transport{Protocols: srv.Config.Protocols}
		if tls := srv.Client().Transport.(*http.Transport).TLSClientConfig; tls != nil {
			tr.TLSClientConfig = tls
		}
		resp, err := (&http.Client{Transport: tr}).Get(srv.URL)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = resp.Body.Close()
		tr.CloseIdleConnections()
		for late := time.Now().Add(10 * time.Second); known() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("%s: %d connections are kept", name, known())
			}
		}
		srv.Close()
	}
}
