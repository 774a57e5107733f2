package conformance

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The secret oracle: a program gives a secret away by a path, by a host and to a header, policies deny all three, and an
// attacker who spells his requests in every way he can think of must not get the secret's bytes (attacks.md B-030, B-033,
// B-038, B-040). That he knows his trade is shown by what he gets out of a reverse proxy that compares what it is sent.

const secret = "the-secret-of-the-oracle"

// secretFiles are a public file and the secret one, by the name that servers know them by.
func secretFiles(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"private/secret.html": secret, "public/page.html": "public", "role": "nothing"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// secretApp is a program of net/http alone: a mux that cleans paths and redirects, a file server, a host pattern, a header that
// it splits, and a door for those who bring the right token.
func secretApp(t testing.TB) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(secretFiles(t))))
	give := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, secret) }
	mux.HandleFunc("/private/tree/", give) // a request for /private/tree is redirected there
	mux.HandleFunc("GET /private/by/{name}", give)
	mux.HandleFunc("secret.example/", give)
	mux.HandleFunc("/token", give)
	mux.HandleFunc("/role", func(w http.ResponseWriter, r *http.Request) {
		for _, v := range r.Header["X-Role"] {
			for one := range strings.SplitSeq(v, ",") {
				if strings.TrimSpace(one) == "admin" {
					_, _ = io.WriteString(w, secret)
				}
			}
		}
	})
	return mux
}

const secretPolicies = `
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-secret}
spec:
  action: DENY
  rules:
  - to: [{operation: {paths: [/private, /private/*]}}]
  - to: [{operation: {hosts: [secret.example, 'secret.example:*']}}]
  - when: [{key: 'request.headers[x-role]', values: [admin]}]
  - to: [{operation: {paths: [/token, /token/*]}}]
    from: [{source: {notRequestPrincipals: ["https://issuer.example/admin"]}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwks: '{"keys":[{"kty":"OKP","kid":"a","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
    fromHeaders: [{name: Authorization, prefix: "Bearer "}, {name: X-Token}]
    fromParams: [token]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: the-rest}
spec: {rules: [{}]}
`

// naive compares what it is sent, and passes it on.
func naive(t testing.TB, app http.Handler) string {
	t.Helper()
	back := plainServer(t, app)
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: back})
	pass.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	return plainServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		if path == "/private" || strings.HasPrefix(path, "/private/") || r.Host == "secret.example" || r.Header.Get("X-Role") == "admin" ||
			path == "/token" && !naiveToken(r.Header.Get("Authorization")) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		pass.ServeHTTP(w, r)
	}))
}

// naiveToken believes what a token says, as long as it looks like one.
func naiveToken(v string) bool {
	parts := strings.Split(strings.TrimPrefix(v, "Bearer "), ".")
	if len(parts) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return err == nil && bytes.Contains(payload, []byte(`"sub":"admin"`))
}

func plainServer(t testing.TB, app http.Handler) string {
	t.Helper()
	l := listenLocal(t)
	srv := &http.Server{Handler: app, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return l.Addr().String()
}

// An attacker writes requests on connections that he keeps while they last.
type attacker struct {
	*rand.Rand
	addr string
	conn net.Conn
	r    *bufio.Reader
}

func (a *attacker) of(list ...string) string { return list[a.IntN(len(list))] }

// path spells one of the paths that lead to the secret, or past it.
func (a *attacker) path() string {
	p := a.of("/private/secret.html", "/private/secret.html", "/private/", "/public/../private/secret.html", "/public/page.html", "/role", "/role", "/",
		"/private/tree", "/private/tree/", "/private/by/a", "/token", "/token")
	for range a.IntN(4) {
		at := a.IntN(len(p))
		switch a.IntN(12) {
		case 0, 1: // an escape for any byte
			p = p[:at] + fmt.Sprintf(a.of("%%%02x", "%%%02X", "%%25%02x"), p[at]) + p[at+1:]
		case 2:
			p = strings.Replace(p, "/", a.of("//", "/./", "/x/../", `\`, "%2f", "%5c", "%2F", "/%2e/", "/.%2e/", "/%252e%252e/", "///"), 1+a.IntN(3))
		case 3:
			p = a.of("/", "/.", "/public/..", "/x/%2e%2e", "/x/..%2f", "/x%2f..", `/x\..`, "http://h", "HTTP://H", "/public/..%5c", "/%00", "//h") + p
		case 4:
			p += a.of("/", "/.", "?", "?a=b", "#", "%20", "%00", ";x", ".", "/..", "/../secret.html", "%2f", "?/../public", "//")
		case 5:
			p = p[:at] + a.of(";x=y", "%0a", "%09", "%", "%zz", "\x80", "%c0%af", "%e2%81%84", "*", " ", "%3b") + p[at:]
		case 6:
			p = strings.ToUpper(p[:at]) + p[at:]
		case 7:
			p = strings.TrimPrefix(p, "/")
		case 8:
			p = strings.Replace(p, ".", "%2e", 1+a.IntN(2))
		case 9:
			p = strings.Replace(p, "%", "%25", 1)
		default:
			p = p[:at] + a.of("/", "/", ".", "..", "%2f", "%2e") + p[at:]
		}
		if p == "" {
			p = "/"
		}
	}
	return p
}

func (a *attacker) host() string {
	h := a.of("h", "h", "secret.example")
	if h == "h" {
		return h
	}
	return a.of("", "", "", " ") + a.of(h, "SECRET.example", "secret.example.", "secret%2eexample", "secret.example:80", "secret.example:080",
		"secret.example:", "secret.example:8080", "u@secret.example", "secret.example,h", "secret.example:99999", "secret.example:+80", "secret.example/")
}

// token makes a token that nobody has signed who may: without a signature, with another algorithm, with a key of its own, cut
// off, doubled.
func (a *attacker) token() string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	head := a.of(`{"alg":"none"}`, `{"alg":"None","typ":"JWT"}`, `{"alg":"EdDSA","kid":"a"}`, `{"alg":"HS256","kid":"a"}`, `{"alg":"EdDSA","kid":"../a"}`,
		`{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}`, `{"alg":"EdDSA","crit":["exp"]}`,
		`{"alg":"EdDSA","jku":"http://127.0.0.1/"}`, `{"alg":"none","alg":"EdDSA"}`)
	claims := fmt.Sprintf(`{"iss":%q,"sub":"admin","exp":%s}`, a.of("https://issuer.example", "https://issuer.example/", "x"),
		a.of("4102444800", "1", "1e99", `"4102444800"`, "null"))
	signature := make([]byte, a.IntN(3)*32)
	for i := range signature {
		signature[i] = byte(a.Uint32())
	}
	s := part(head) + "." + part(claims) + "." + base64.RawURLEncoding.EncodeToString(signature)
	switch a.IntN(8) {
	case 0:
		s = s[:a.IntN(len(s))]
	case 1:
		s += "." + s
	case 2:
		s = strings.ReplaceAll(s, ".", "..")
	case 3:
		s += a.of("=", " ", "\t", ",", "%00", ";")
	}
	return s
}

func (a *attacker) request() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", a.of("GET", "GET", "GET", "POST", "HEAD", "get"), a.path(), a.host())
	for range a.IntN(3) {
		switch a.IntN(6) {
		case 4, 5:
			fmt.Fprintf(&b, "%s: %s\r\n", a.of("Authorization", "authorization", "X-Token", "Cookie", "X-Forwarded-Authorization"),
				a.of("Bearer ", "bearer ", "Bearer  ", "", "token=", "Basic ")+a.token())
		case 0:
			fmt.Fprintf(&b, "%s: %s\r\n", a.of("X-Original-URL", "X-Rewrite-URL", "X-Envoy-Original-Path", "X-Forwarded-Host", "X-HTTP-Method-Override", "Connection"),
				a.of("/private/secret.html", "secret.example", "GET", "X-Role"))
		default:
			fmt.Fprintf(&b, "%s: %s\r\n", a.of("X-Role", "x-role", "X-ROLE", "X_Role"), a.of("user", "admin", "user,admin", " admin ", "admin,", "user, admin", "\tadmin", "ADMIN", `"admin"`, ""))
		}
	}
	b.WriteString("\r\n")
	return b.String()
}

// send gives the answer's bytes, head and body.
func (a *attacker) send(t testing.TB, request string) []byte {
	t.Helper()
	for range 2 { // a kept connection may have ended
		if a.conn == nil {
			c, err := net.Dial("tcp", a.addr)
			if err != nil {
				t.Fatal(err)
			}
			a.conn, a.r = c, bufio.NewReader(c)
		}
		_ = a.conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(a.conn, request); err == nil {
			resp, err := http.ReadResponse(a.r, &http.Request{Method: strings.ToUpper(request[:strings.IndexByte(request, ' ')])})
			if err == nil {
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.Close {
					a.close()
				}
				return body
			}
		}
		a.close()
	}
	return nil
}

func (a *attacker) close() {
	if a.conn != nil {
		_ = a.conn.Close()
		a.conn = nil
	}
}

// visit is a request of HTTP/2, as near to that of HTTP/1.1 as its client can write it.
func (a *attacker) visit() visit {
	v := visit{method: a.of("GET", "GET", "POST", "HEAD"), target: strings.TrimSpace(a.path()), host: strings.TrimSpace(a.host()), header: http.Header{}}
	for range a.IntN(3) {
		switch a.IntN(3) {
		case 0:
			v.header.Set(a.of("Authorization", "X-Token"), "Bearer "+strings.TrimSpace(a.token()))
		case 1:
			v.header.Add("X-Role", strings.TrimSpace(a.of("user", "admin", "user,admin", "admin,", "user, admin", "ADMIN", "")))
		default:
			v.header.Set(a.of("X-Original-Url", "X-Rewrite-Url", "X-Envoy-Original-Path", "X-Forwarded-Host"), "/private/secret.html")
		}
	}
	return v
}

// attackHTTP2 is attack with requests of HTTP/2.
func attackHTTP2(t testing.TB, addr string, seed uint64, n int) (leaks []string, answered int) {
	a := &attacker{Rand: rand.New(rand.NewPCG(seed, 8))}
	for range n {
		v := a.visit()
		if _, err := url.ParseRequestURI(v.target); err != nil {
			continue // net/http's server resets the stream, and its client tries again for half a minute
		}
		got := askHTTP2(t, addr, v)
		if got.status != 0 {
			answered++
		}
		if request := fmt.Sprintf("%+v", v); strings.Contains(got.body, secret) && !slices.Contains(leaks, request) {
			leaks = append(leaks, request)
		}
	}
	return leaks, answered
}

// attack sends n requests and gives those that brought the secret back.
func attack(t testing.TB, addr string, seed uint64, n int) (leaks []string, answered int) {
	a := &attacker{Rand: rand.New(rand.NewPCG(seed, 7)), addr: addr}
	defer a.close()
	for range n {
		request := a.request()
		body := a.send(t, request)
		if len(body) > 0 {
			answered++
		}
		if bytes.Contains(body, []byte(secret)) && !slices.Contains(leaks, request) {
			leaks = append(leaks, request)
		}
	}
	return leaks, answered
}

// A back is what stands behind the sidecar.
type back struct {
	name  string
	start func(t testing.TB, dir string) (addr string) // "" where it cannot be, and the test is skipped
}

var backs = []back{{"nginx", startNginx}, {"Python", startPython}}

// TestSecretOracle sends 4,000 requests to each face, or as many to all together as HEDDLE_SECRET_REQUESTS says.
func TestSecretOracle(t *testing.T) {
	t.Parallel()
	n := 4_000
	if s := os.Getenv("HEDDLE_SECRET_REQUESTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
		n = (n + len(faces) + len(backs) - 1) / (len(faces) + len(backs))
	}
	seed := rand.Uint64()
	t.Logf("seed %d, %d requests each", seed, n)
	judge := func(t *testing.T, leaks []string, answered int) {
		t.Helper()
		for _, request := range leaks {
			t.Errorf("the secret is out, seed %d: %q", seed, request)
		}
		if answered < n/3 {
			t.Errorf("%d of %d requests are answered: nothing was attacked", answered, n)
		}
	}
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			addr := f.serve(t, inboundMesh(t, secretPolicies), secretApp(t))
			if f.http2 {
				leaks, answered := attackHTTP2(t, addr, seed, n)
				judge(t, leaks, answered)
				return
			}
			leaks, answered := attack(t, addr, seed, n)
			judge(t, leaks, answered)
		})
	}
	for _, back := range backs {
		t.Run(back.name+" behind the proxy", func(t *testing.T) {
			t.Parallel()
			app := back.start(t, secretFiles(t))
			if app == "" {
				t.Skip(back.name + " is not installed")
			}
			leaks, answered := attack(t, sidecarBefore(t, inboundMesh(t, secretPolicies), app), seed, n)
			judge(t, leaks, answered)
		})
	}
	t.Run("a naive proxy leaks", func(t *testing.T) {
		t.Parallel()
		leaks, _ := attack(t, naive(t, secretApp(t)), seed, max(n, 10_000))
		ways := map[string]int{}
		for _, request := range leaks {
			switch {
			case strings.Contains(strings.ToLower(request), "host: secret"):
				ways["host"]++
			case strings.Contains(request, "/role"):
				ways["header"]++
			case strings.Contains(request, "token"):
				ways["token"]++
			default:
				ways["path"]++
			}
		}
		t.Logf("leaks: %v", ways)
		if ways["host"] == 0 || ways["header"] == 0 || ways["path"] == 0 || ways["token"] == 0 {
			t.Errorf("the attacker does not know his trade: %v", ways)
		}
	})
}
