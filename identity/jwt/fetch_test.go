package jwt_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/identity/jwt"
	"github.com/heddlemesh/mesh/internal/memory"
)

// An issuerNet is servers in memory, by their address as it is dialled. Each connection is one request, whose answer is
// what serve writes.
type issuerNet struct {
	t  testing.TB
	ip map[string]string // where "host:port" leads

	mu     sync.Mutex
	serve  http.HandlerFunc
	asked  []string // "GET http://host/path"
	dialed []string
}

func newIssuerNet(t testing.TB, serve http.HandlerFunc) *issuerNet {
	return &issuerNet{t: t, ip: map[string]string{}, serve: serve}
}

func (n *issuerNet) now(serve http.HandlerFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.serve = serve
}

// fetches says how often somebody has asked.
func (n *issuerNet) fetches() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.asked)
}

func (n *issuerNet) lastAsked() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.asked) == 0 {
		return ""
	}
	return n.asked[len(n.asked)-1]
}

type piped struct {
	net.Conn
	remote net.Addr
}

func (p piped) RemoteAddr() net.Addr { return p.remote }

// watchedConn tells when it is closed.
type watchedConn struct {
	net.Conn
	closed func()
}

func (c watchedConn) Close() error { c.closed(); return c.Conn.Close() }

func (n *issuerNet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.dialed = append(n.dialed, address)
	ip := net.ParseIP(host)
	if to, ok := n.ip[host]; ok {
		ip = net.ParseIP(to)
	}
	n.mu.Unlock()
	if ip == nil {
		ip = net.ParseIP("192.0.2.1")
	}
	client, server := net.Pipe()
	l := memory.Listen(memory.Addr("issuer"))
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		n.asked = append(n.asked, r.Method+" http://"+r.Host+r.URL.Path)
		serve := n.serve
		n.mu.Unlock()
		serve(w, r)
	})}
	go func() { _ = srv.Serve(l) }()
	if err := l.Give(ctx, watchedConn{server, func() { _ = l.Close() }}); err != nil {
		return nil, err
	}
	return piped{client, &net.TCPAddr{IP: ip, Port: 80}}, nil
}

func (n *issuerNet) fetcher(report func(jwt.FetchEvent)) *jwt.Fetcher {
	return jwt.NewFetcher(jwt.FetcherOptions{Dial: n.dial, Rand: func() uint64 { return 1 << 62 }, Report: report})
}

func writes(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func fails(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "down", http.StatusInternalServerError)
}

const keysURL = "http://issuer.example/jwks"

func remoteRule(uri string) jwt.Rule {
	return jwt.Rule{Issuer: "https://issuer.example", Source: jwt.Source{URI: uri}}
}

// fresh makes a token that counts now, of a key by its kid.
func fresh(t testing.TB, alg, kid string) string {
	return sign(t, alg, fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, kid), claims(time.Now().Unix(), map[string]any{"exp": time.Now().Add(1000 * time.Hour).Unix()}))
}

func kidded(alg, kid string) string { return publicJWK(signerOf(alg), `,"kid":"`+kid+`"`) }

// TestFetched: keys are there when Follow returns, and the answer of a rule is that of keys that are written.
func TestFetched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newIssuerNet(t, writes(jwks(kidded("ES256", "a"))))
		f := n.fetcher(nil)
		defer f.Close()
		plain := jwt.New([]jwt.Rule{rule(nil)})
		if f.Follow(t.Context(), plain) != plain || f.Follow(t.Context(), nil) != nil {
			t.Error("a set without sources is not given back")
		}
		unbound := jwt.New([]jwt.Rule{remoteRule(keysURL)})
		if err := unbound.Check(bearer(fresh(t, "ES256", "a")), time.Now()).Err; !errors.Is(err, jwt.NoKeySet) {
			t.Errorf("nobody fetches: %v", err)
		}
		s := f.Follow(t.Context(), unbound)
		if found := s.Check(bearer(fresh(t, "ES256", "a")), time.Now()); found.Err != nil || found.Token == nil {
			t.Errorf("%+v", found)
		}
		if again := f.Follow(t.Context(), jwt.New([]jwt.Rule{remoteRule(keysURL)})); again.Check(bearer(fresh(t, "ES256", "a")), time.Now()).Err != nil || n.fetches() != 1 {
			t.Errorf("a second set of the same source: %d fetches", n.fetches())
		}
		all := f.Status()
		if len(all) != 1 || all[0].URL != keysURL || all[0].Keys != 1 || all[0].Failure != "" || all[0].Until.Sub(all[0].Fetched) != time.Hour {
			t.Errorf("%+v", all)
		}
		f.Keep(plain)
		if all := f.Status(); len(all) != 0 {
			t.Errorf("kept %+v", all)
		}
		before := n.fetches()
		time.Sleep(24 * time.Hour)
		if n.fetches() != before {
			t.Error("a source that nobody has is fetched")
		}
	})
}

// TestUnknownKid: however many tokens name keys that are not there, they are asked for once in 30 s (attacks.md C-044).
func TestUnknownKid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newIssuerNet(t, writes(jwks(kidded("ES256", "a"))))
		f := n.fetcher(nil)
		defer f.Close()
		s := f.Follow(t.Context(), jwt.New([]jwt.Rule{remoteRule(keysURL)}))
		now := time.Now().Unix()
		payload := b64([]byte(claims(now, map[string]any{"exp": now + 1_000_000})))
		signature := b64(make([]byte, 64))
		kids := 100_000
		if testing.Short() {
			kids = 5_000
		}
		began := time.Now()
		for i := range kids {
			token := b64(fmt.Appendf(nil, `{"alg":"ES256","kid":"k%d"}`, i)) + "." + payload + "." + signature
			if err := s.Check(bearer(token), time.Now()).Err; !errors.Is(err, jwt.NoKey) {
				t.Fatalf("kid %d: %v", i, err)
			}
			if i%(kids/100) == 0 {
				time.Sleep(time.Second)
			}
		}
		synctest.Wait()
		if most := 2 + int(time.Since(began)/(30*time.Second)); n.fetches() < 2 || n.fetches() > most {
			t.Errorf("%d fetches in %v, want at most %d", n.fetches(), time.Since(began), most)
		}
	})
}

// TestKeyAdded: a token that is signed with a new key has it fetched, and is taken when it comes again.
func TestKeyAdded(t *testing.T) {
	t.Parallel()
	for _, idle := range []time.Duration{0, 10 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			n := newIssuerNet(t, writes(jwks(kidded("ES256", "a"))))
			f := n.fetcher(nil)
			defer f.Close()
			s := f.Follow(t.Context(), jwt.New([]jwt.Rule{remoteRule(keysURL)}))
			time.Sleep(idle)
			n.now(writes(jwks(kidded("ES256", "a"), kidded("EdDSA", "b"))))
			token := fresh(t, "EdDSA", "b")
			if err := s.Check(bearer(token), time.Now()).Err; !errors.Is(err, jwt.NoKey) {
				t.Errorf("before it is fetched: %v", err)
			}
			time.Sleep(max(0, 30*time.Second-idle))
			synctest.Wait()
			if err := s.Check(bearer(token), time.Now()).Err; err != nil || n.fetches() != 2 {
				t.Errorf("idle for %v: %v after %d fetches", idle, err, n.fetches())
			}
		})
	}
}

// TestKeyGone: a key that the issuer has taken back, or given another value, is gone by the next fetch, and what was verified
// with it is not remembered (attacks.md C-053, C-056).
func TestKeyGone(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]string{
		"removed":               jwks(kidded("EdDSA", "b")),
		"another under its kid": jwks(publicJWK(signerOf("ES384"), `,"kid":"a"`)),
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newIssuerNet(t, writes(jwks(kidded("ES256", "a"))))
			f := n.fetcher(nil)
			defer f.Close()
			s := f.Follow(t.Context(), jwt.New([]jwt.Rule{remoteRule(keysURL)}))
			token := fresh(t, "ES256", "a")
			for range 2 {
				if err := s.Check(bearer(token), time.Now()).Err; err != nil {
					t.Fatal(err)
				}
			}
			changes := s.Changes()
			n.now(writes(then))
			time.Sleep(330 * time.Second) // the longest pause
			synctest.Wait()
			if err := s.Check(bearer(token), time.Now()).Err; !errors.Is(err, jwt.NoKey) {
				t.Errorf("%s: %v", name, err)
			}
			if s.Changes() == changes {
				t.Errorf("%s: nobody is told", name)
			}
		})
	}
}

// TestSameKeys: what is fetched again and has not changed leaves everything as it was.
func TestSameKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var events []jwt.FetchEvent
		n := newIssuerNet(t, writes(jwks(kidded("ES256", "a"))))
		f := n.fetcher(func(e jwt.FetchEvent) { events = append(events, e) })
		defer f.Close()
		s := f.Follow(t.Context(), jwt.New([]jwt.Rule{remoteRule(keysURL)}))
		token := fresh(t, "ES256", "a")
		first := s.Check(bearer(token), time.Now()).Token
		changes := s.Changes()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if got := n.fetches(); got < 24*60/6 || got > 24*60/4 {
			t.Errorf("%d fetches in a day", got)
		}
		if s.Check(bearer(token), time.Now()).Token != first || s.Changes() != changes || len(events) != 1 {
			t.Errorf("%d changes, events %+v", s.Changes()-changes, events)
		}
	})
}

// TestFetchFails: the last good keys count for an hour, then none do, and nothing else ever does; it is tried again and told
// once (attacks.md C-053, C-054).
func TestFetchFails(t *testing.T) {
	t.Parallel()
	good := writes(jwks(kidded("ES256", "a")))
	slow := func(w http.ResponseWriter, r *http.Request) {
		text := jwks(kidded("ES256", "a"))
		for i := range len(text) {
			if _, err := io.WriteString(w, text[i:i+1]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
				return
			}
		}
	}
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		want  string // in the failure
	}{
		"500":             {fails, "status 500"},
		"201":             {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusCreated); good(w, r) }, "status 201"},
		"HTML":            {writes("<html>sign in</html>"), "no JSON object"},
		"empty":           {writes(""), "no JSON object"},
		"empty set":       {writes(`{"keys":[]}`), "no key for signatures"},
		"symmetric key":   {writes(jwks(`{"kty":"oct","k":"c2VjcmV0","kid":"a"}`)), "no key for signatures"},
		"private key":     {writes(jwks(strings.Replace(kidded("ES256", "a"), "{", `{"d":"c2VjcmV0",`, 1))), "no key for signatures"},
		"no answer":       {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline"},
		"a byte a second": {slow, "deadline"},
		"100 MB": {func(w http.ResponseWriter, _ *http.Request) {
			for range 100 << 20 >> 16 {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "larger than 1048576 bytes"},
		"a large header": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("a", 1<<20))
			good(w, r)
		}, "header"},
		"redirect loop": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "more than 3 times"},
		"broken off":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"compressed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255})
		}, "no JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var told []string
				n := newIssuerNet(t, c.serve)
				f := n.fetcher(func(e jwt.FetchEvent) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, fmt.Sprintf("%d %v", e.Keys, e.Err != nil))
				})
				defer f.Close()
				began := time.Now()
				s := f.Follow(t.Context(), jwt.New([]jwt.Rule{remoteRule(keysURL)}))
				if d := time.Since(began); d > 5*time.Second {
					t.Errorf("it holds up the start for %v", d)
				}
				check := func(want error) {
					t.Helper()
					if err := s.Check(bearer(fresh(t, "ES256", "a")), time.Now()).Err; !errors.Is(err, want) {
						t.Errorf("after %v: %v, want %v", time.Since(began), err, want)
					}
				}
				synctest.Wait()
				check(jwt.NoKeySet)
				if err := s.Check(&jwt.Request{Headers: bearer("").Headers}, time.Now()).Err; err == nil {
					t.Error("a token that is none is taken")
				}
				if st := f.Status(); len(st) != 1 || st[0].Keys != 0 || !strings.Contains(st[0].Failure, c.want) || strings.Contains(st[0].Failure, "c2VjcmV0") {
					t.Errorf("%+v, want %q", st, c.want)
				}
				n.now(good)
				time.Sleep(3 * time.Minute)
				check(nil)
				n.now(c.serve)
				time.Sleep(50 * time.Minute)
				check(nil)
				tried := n.fetches()
				if st := f.Status(); st[0].Keys != 1 || !strings.Contains(st[0].Failure, c.want) {
					t.Errorf("%+v", st)
				}
				time.Sleep(20 * time.Minute)
				check(jwt.NoKeySet)
				if more := n.fetches() - tried; more < 10 {
					t.Errorf("tried %d times in 20 minutes", more)
				}
				n.now(good)
				time.Sleep(3 * time.Minute)
				check(nil)
				mu.Lock()
				defer mu.Unlock()
				if got := strings.Join(told, ", "); got != "0 true, 1 false, 1 true, 0 true, 1 false" {
					t.Errorf("told %s", got)
				}
			})
		})
	}
}

// TestOneInFlight: a source that does not answer is asked once at a time.
func TestOneInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		n := newIssuerNet(t, func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-r.Context().Done()
			mu.Lock()
			running--
			mu.Unlock()
		})
		f := n.fetcher(nil)
		defer f.Close()
		s := f.Follow(t.Context(), jwt.New([]jwt.Rule{remoteRule(keysURL)}))
		for range 1000 {
			s.Check(bearer(fresh(t, "EdDSA", "a")), time.Now())
			time.Sleep(time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		if most != 1 {
			t.Errorf("%d fetches at once", most)
		}
	})
}

// TestFetchTimeout: a source's own time-out bounds discovery, redirects and keys together, and a context that ends bounds the
// waiting.
func TestFetchTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newIssuerNet(t, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(700 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
			_, _ = io.WriteString(w, `{"issuer":"http://issuer.example","jwks_uri":"http://issuer.example/keys"}`)
		})
		f := n.fetcher(nil)
		defer f.Close()
		began := time.Now()
		f.Follow(t.Context(), jwt.New([]jwt.Rule{{Issuer: "http://issuer.example", Source: jwt.Source{Issuer: "http://issuer.example", Timeout: time.Second}}}))
		if d := time.Since(began); d != time.Second || n.lastAsked() != "GET http://issuer.example/keys" {
			t.Errorf("ended after %v, last asked for %s", d, n.lastAsked())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began = time.Now()
		f.Follow(ctx, jwt.New([]jwt.Rule{remoteRule("http://issuer.example/other")}))
		if d := time.Since(began); d != 100*time.Millisecond {
			t.Errorf("waited %v", d)
		}
	})
}

// TestClose: nothing runs on, and nothing begins.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // which fails for goroutines that are left
		n := newIssuerNet(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		f := n.fetcher(nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := jwt.New([]jwt.Rule{remoteRule(keysURL), remoteRule("http://other.example/")})
		f.Follow(ctx, s)
		f.Close()
		f.Close()
		before := n.fetches()
		if err := f.Follow(t.Context(), s).Check(bearer(fresh(t, "EdDSA", "a")), time.Now()).Err; !errors.Is(err, jwt.NoKeySet) {
			t.Errorf("%v", err)
		}
		if n.fetches() != before {
			t.Error("it asks after Close")
		}
	})
}
