package jwt_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/identity/jwt"
)

// TestSourceCheck: URLs that nobody is asked at, whoever names them (attacks.md A-059).
func TestSourceCheck(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"https://a.example/jwks": "", "http://a.example": "", "https://10.0.0.1:8443/": "", "HTTPS://a.example/": "",
		"ftp://a.example/jwks": "http or https", "file:///etc/passwd": "http or https", "a.example/jwks": "http or https", "//a.example/jwks": "http or https",
		"gopher://a.example": "http or https", "https:a.example": "no host", "https://": "no host", "https://:443/": "no host",
		"https://a.example:0/": "port", "https://a.example:65536/": "port", "https://a.example:http/": "no URL", "https://u@a.example/": "user",
		"https://u:p@a.example/": "user", "https://a.example/#x": "fragment", "http://169.254.169.254/": "link-local",
		"http://[fe80::1%25eth0]/": "link-local", "http://[::ffff:169.254.169.254]/": "link-local", "http://[64:ff9b::a9fe:a9fe]/": "link-local",
		"http://[fd00:ec2::254]/": "metadata", "http://100.100.100.200/": "metadata", "https://a b.example/": "no URL",
	} {
		err := jwt.Source{URI: uri}.Check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", uri, err, want)
		}
	}
}

// failure follows a source and gives why it cannot be fetched, "" where it can.
func failure(t *testing.T, f *jwt.Fetcher, s jwt.Source) string {
	t.Helper()
	f.Follow(t.Context(), jwt.New([]jwt.Rule{{Issuer: "https://issuer.example", Source: s}}))
	synctest.Wait()
	for _, st := range f.Status() {
		if st.URL == s.String() {
			return st.Failure
		}
	}
	return "not followed"
}

// TestWhereKeysAreFetched: the address is judged when it is dialled, at each redirect and at each refresh, whatever the name
// (attacks.md A-059).
func TestWhereKeysAreFetched(t *testing.T) {
	t.Parallel()
	addresses := map[string]string{ // what a name leads to
		"loop.example": "127.0.0.1", "loop6.example": "::1", "any.example": "0.0.0.0", "any6.example": "::", "mapped.example": "::ffff:127.0.0.1",
		"metadata.example": "169.254.169.254", "nat64.example": "64:ff9b::a9fe:a9fe", "azure.example": "168.63.129.16", "link.example": "fe80::1", "group.example": "224.0.0.1",
		"good.example": "198.51.100.7", "private.example": "10.1.2.3",
	}
	refused := func(name string) bool { return name != "good.example" && name != "private.example" }
	for name := range addresses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				good := writes(jwks(kidded("ES256", "a")))
				n := newIssuerNet(t, func(w http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/away":
						http.Redirect(w, r, "http://"+name+"/jwks", http.StatusFound)
					case "/.well-known/openid-configuration":
						fmt.Fprintf(w, `{"issuer":"http://issuer.example","jwks_uri":"http://%s/jwks"}`, name)
					default:
						good(w, r)
					}
				})
				n.ip = addresses
				f := n.fetcher(nil)
				defer f.Close()
				for _, s := range []jwt.Source{{URI: "http://" + name + "/jwks"}, {URI: "http://good.example/away"}, {Issuer: "http://issuer.example"}} {
					if got := failure(t, f, s); strings.Contains(got, "destination refused") != refused(name) || !refused(name) && got != "" {
						t.Errorf("%v: %q", s, got)
					}
				}
				for _, asked := range n.asked {
					if refused(name) && strings.Contains(asked, name) {
						t.Errorf("%s is asked", name)
					}
				}
			})
		})
	}
	t.Run("a name that leads elsewhere later", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := newIssuerNet(t, writes(jwks(kidded("ES256", "a"))))
			n.ip["rebound.example"] = "198.51.100.7"
			f := n.fetcher(nil)
			defer f.Close()
			source := jwt.Source{URI: "http://rebound.example/"}
			if got := failure(t, f, source); got != "" {
				t.Error(got)
			}
			n.mu.Lock()
			n.ip["rebound.example"] = "127.0.0.1"
			n.mu.Unlock()
			asked := n.fetches()
			time.Sleep(6 * time.Minute)
			synctest.Wait()
			if st := f.Status(); !strings.Contains(st[0].Failure, "this machine") || n.fetches() != asked {
				t.Errorf("%+v, asked %d times more", st, n.fetches()-asked)
			}
		})
	})
}

// TestRedirects: three are followed, and none to where a source could not lead by itself, nor out of TLS.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for to, want := range map[string]string{
		"/2": "", "/3": "more than 3 times", "http://other.example/0": "", "file:///etc/passwd": "http or https", "ftp://a.example/": "http or https",
		"http://u:p@issuer.example/0": "user", "http://169.254.169.254/": "link-local", "http://issuer.example:0/": "port", "javascript:x": "http or https",
		"http://issuer.example/" + strings.Repeat("a", 1<<10): "status 404",
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newIssuerNet(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/":
					w.Header().Set("Location", to)
					w.WriteHeader(http.StatusFound)
				case "/3", "/2", "/1":
					http.Redirect(w, r, fmt.Sprintf("/%c", r.URL.Path[1]-1), http.StatusTemporaryRedirect)
				case "/0":
					writes(jwks(kidded("ES256", "a")))(w, r)
				default:
					http.NotFound(w, r)
				}
			})
			f := n.fetcher(nil)
			defer f.Close()
			got := failure(t, f, jwt.Source{URI: "http://issuer.example/"})
			if (got == "") != (want == "") || !strings.Contains(got, want) || strings.Contains(got, "aaaa") {
				t.Errorf("to %s: %q, want %q", to, got, want)
			}
		})
	}
}

// TestDiscovered: what an issuer may say of itself (OpenID Connect Discovery 1.0 §3, §4.3).
func TestDiscovered(t *testing.T) {
	t.Parallel()
	secured := jwt.Source{Issuer: "https://issuer.example/realm/"}
	plain := jwt.Source{Issuer: "http://issuer.example"}
	for _, c := range []struct {
		source     jwt.Source
		text, want string
	}{
		{secured, `{"issuer":"https://issuer.example/realm/","jwks_uri":"https://keys.example/jwks","x":[1]}`, ""},
		{plain, `{"issuer":"http://issuer.example","jwks_uri":"http://issuer.example/jwks"}`, ""},
		{plain, `{"issuer":"http://issuer.example","jwks_uri":"https://issuer.example/jwks"}`, ""},
		{secured, `{"issuer":"https://issuer.example/realm/","jwks_uri":"http://keys.example/jwks"}`, "from https to http"},
		{secured, `{"issuer":"https://issuer.example/realm","jwks_uri":"https://keys.example/jwks"}`, "another issuer"},
		{secured, `{"issuer":"https://ISSUER.example/realm/","jwks_uri":"https://keys.example/jwks"}`, "another issuer"},
		{secured, `{"jwks_uri":"https://keys.example/jwks"}`, "another issuer"},
		{secured, `{"issuer":["https://issuer.example/realm/"],"jwks_uri":"https://keys.example/jwks"}`, "another issuer"},
		{secured, `{"issuer":"https://issuer.example/realm/"}`, "no jwks_uri"},
		{secured, `{"issuer":"https://issuer.example/realm/","jwks_uri":7}`, "no jwks_uri"},
		{secured, `{"issuer":"https://issuer.example/realm/","jwks_uri":"https://keys.example/jwks","jwks_uri":"https://evil.example/jwks"}`, "twice"},
		{secured, `{"issuer":"https://issuer.example/realm/","jwks_uri":"/jwks"}`, "http or https"},
		{secured, `{"issuer":"https://issuer.example/realm/","jwks_uri":"file:///etc/passwd"}`, "http or https"},
		{secured, `{"issuer":"https://issuer.example/realm/","jwks_uri":"https://169.254.169.254/"}`, "link-local"},
		{secured, `{"issuer":"https://issuer.example/realm/","jwks_uri":"https://u:p@keys.example/"}`, "user"},
		{secured, `<html>`, "no JSON object"},
		{secured, `[]`, "not an object"},
	} {
		_, err := jwt.Discovered([]byte(c.text), c.source)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
	if got := secured.String(); got != "https://issuer.example/realm/.well-known/openid-configuration" {
		t.Error(got)
	}
	synctest.Test(t, func(t *testing.T) {
		n := newIssuerNet(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/.well-known/openid-configuration" {
				_, _ = io.WriteString(w, `{"issuer":"http://issuer.example","jwks_uri":"http://keys.example/k"}`)
				return
			}
			writes(jwks(kidded("ES256", "a")))(w, r)
		})
		f := n.fetcher(nil)
		defer f.Close()
		if got := failure(t, f, plain); got != "" || n.lastAsked() != "GET http://keys.example/k" {
			t.Errorf("%q, asked %v", got, n.asked)
		}
	})
}

// TestFetchByTLS: over real sockets, with the authorities that are given and no others; loopback only where it is allowed.
func TestFetchByTLS(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(writes(jwks(kidded("ES256", "a"))))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	defer srv.Close()
	ours := srv.Client().Transport.(*http.Transport).TLSClientConfig
	for _, c := range []struct {
		name string
		o    jwt.FetcherOptions
		want string
	}{
		{"good", jwt.FetcherOptions{Loopback: true, TLS: ours}, ""},
		{"loopback is refused", jwt.FetcherOptions{TLS: ours}, "this machine"},
		{"unknown authority", jwt.FetcherOptions{Loopback: true, TLS: &tls.Config{}}, "certificate"},
		{"the system's authorities", jwt.FetcherOptions{Loopback: true}, "certificate"},
		{"another name", jwt.FetcherOptions{Loopback: true, TLS: &tls.Config{RootCAs: ours.RootCAs, ServerName: "other.test"}}, "certificate"},
	} {
		answered := make(chan jwt.FetchEvent, 1)
		c.o.Report = func(e jwt.FetchEvent) {
			select {
			case answered <- e:
			default:
			}
		}
		f := jwt.NewFetcher(c.o)
		f.Follow(t.Context(), jwt.New([]jwt.Rule{{Issuer: "https://issuer.example", Source: jwt.Source{URI: srv.URL, Timeout: time.Minute}}}))
		if e := <-answered; (e.Err == nil) != (c.want == "") || e.Err != nil && !strings.Contains(e.Err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, e.Err, c.want)
		}
		f.Close()
	}
}

// TestPassedOver: of keys that an issuer gives, those that are of no use here do not put out the others.
func TestPassedOver(t *testing.T) {
	t.Parallel()
	good := kidded("ES256", "a")
	for name, c := range map[string]struct {
		text string
		keys int // 0 for a set that is refused
	}{
		"good":            {jwks(good), 1},
		"symmetric":       {jwks(good, `{"kty":"oct","k":"c2VjcmV0","kid":"s"}`), 1},
		"private":         {jwks(good, strings.Replace(kidded("EdDSA", "p"), "{", `{"d":"c2VjcmV0",`, 1)), 1},
		"unknown curve":   {jwks(`{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}`, good), 1},
		"short RSA":       {jwks(`{"kty":"RSA","n":"AQAB","e":"AQAB"}`, good), 1},
		"kid no text":     {jwks(`{"kty":"EC","kid":5}`, good), 1},
		"no object":       {jwks(`5`, good), 1},
		"kid twice":       {jwks(good, kidded("EdDSA", "a")), 2},
		"encryption":      {jwks(strings.Replace(good, "{", `{"use":"enc",`, 1)), 0},
		"only a secret":   {jwks(`{"kty":"oct","k":"c2VjcmV0"}`), 0},
		"keys no list":    {`{"keys":{}}`, 0},
		"a member twice":  {`{"keys":[` + good + `],"keys":[]}`, 0},
		"too many":        {jwks(strings.Repeat(`{"kty":"x"},`, 256) + good), 0},
		"something after": {jwks(good) + "x", 0},
	} {
		s, err := jwt.ParseFetched([]byte(c.text))
		if (err == nil) != (c.keys > 0) || err == nil && s.Len() != c.keys {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: shows a key: %v", name, err)
		}
	}
	// either of two keys under one kid
	keys, err := jwt.ParseFetched([]byte(jwks(good, kidded("EdDSA", "a"))))
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []string{"ES256", "EdDSA"} {
		token := sign(t, alg, `{"alg":"`+alg+`","kid":"a"}`, claims(iat, nil))
		if err := jwt.New([]jwt.Rule{rule(keys)}).Check(bearer(token), now).Err; err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

func FuzzDiscovered(f *testing.F) {
	for _, s := range []string{`{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/jwks"}`,
		`{"issuer":"https://issuer.example","jwks_uri":"http://169.254.169.254/"}`, `{"issuer":"https://issuer.example","jwks_uri":"file:///etc"}`, `{`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		uri, err := jwt.Discovered(text, jwt.Source{Issuer: "https://issuer.example"})
		if (uri == "") == (err == nil) {
			t.Fatalf("%q, %v", uri, err)
		}
		if err == nil && (jwt.Source{URI: uri}.Check() != nil || !strings.HasPrefix(strings.ToLower(uri), "https://")) {
			t.Errorf("leads to %q", uri)
		}
	})
}

func FuzzFetchedKeys(f *testing.F) {
	f.Add([]byte(jwks(publicJWK(signerOf("ES256"), ""), publicJWK(signerOf("RS256"), `,"kid":"a"`))))
	f.Add([]byte(jwks(`{"kty":"oct","k":"AA"}`, publicJWK(signerOf("EdDSA"), ""))))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := jwt.ParseFetched(text)
		if (s == nil) == (err == nil) || err == nil && s.Len() == 0 {
			t.Fatalf("%v, %v", s, err)
		}
		if _, strict := jwt.ParseKeySet(text); strict == nil && err != nil {
			t.Errorf("refused, and taken where it is written: %v", err)
		}
	})
}
