package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/heddlemesh/mesh/proxy"
)

// recorder answers every request with its first line and its Host lines.
func recorder(t *testing.T) string {
	return raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			var said strings.Builder
			said.WriteString(strings.TrimSuffix(line, "\r\n"))
			for line != "\r\n" {
				if line, err = br.ReadString('\n'); err != nil {
					return
				}
				if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "host") {
					said.WriteString("|" + strings.TrimSpace(value))
				}
			}
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", said.Len(), said.String())
		}
	})
}

// TestHostOnTheWire (B-032, B-033): whatever way a host is written, one Host goes on, in one spelling, and that of an
// absolute target before the header's (RFC 9112 §3.2.2).
func TestHostOnTheWire(t *testing.T) {
	t.Parallel()
	up := recorder(t)
	r := start(t, service("reviews", "HTTP", up), inboundOf(up))
	in, out := r.sidecar.InboundAddrs()[0].String(), r.sidecar.OutboundAddr().String()
	const fqdn = "reviews.default.svc.cluster.local"
	for _, c := range []struct{ target, host, want string }{
		{"/x", "reviews", "reviews"},
		{"/x", "Reviews", "reviews"},
		{"/x", "reviews:80", "reviews"},
		{"/x", "reviews:0080", "reviews"},
		{"/x", "reviews:", "reviews"},
		{"/x", "reviews.", "reviews"},
		{"/x", "REVIEWS.default.svc.cluster.local.:80", fqdn},
		{"http://Reviews/x", "elsewhere.example.com", "reviews"},
		{"http://reviews:80/x", "reviews:9999", "reviews"},
		{"HTTP://reviews./x", "reviews", "reviews"},
		{"http://reviews/x", "a", "reviews"},
	} {
		for side, address := range map[string]string{"inbound": in, "outbound": out} {
			_, got := exchange(t, address, "GET "+c.target+" HTTP/1.1\r\nHost: "+c.host+"\r\n\r\n")
			if want := "GET /x HTTP/1.1|" + c.want; got != want {
				t.Errorf("%s, %s of %s: the upstream saw %q, want %q", side, c.target, c.host, got, want)
			}
		}
	}
	for host, want := range map[string]string{"[0:0::1]:8080": "[::1]:8080", "[::1]:80": "[::1]", "10.0.0.1:08080": "10.0.0.1:8080", "A_b:81": "a_b:81"} {
		if _, got := exchange(t, in, "GET /x HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); got != "GET /x HTTP/1.1|"+want {
			t.Errorf("%s: the application saw %q", host, got)
		}
	}
}

// TestAuthorityOnTheWire: the same for HTTP/2, and for what is reported.
func TestAuthorityOnTheWire(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	r := start(t, service("reviews", "HTTP2", up), nil)
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	client := clientOf(t, tr)
	for host, want := range map[string]string{"Reviews:80": "reviews", "Nobody.Invalid.:80": ""} {
		req := r.request(http.MethodGet, "http://"+r.sidecar.OutboundAddr().String()+"/", nil)
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want != "" && string(body) != want {
			t.Errorf("%s: the endpoint saw %q", host, body)
		}
	}
	if l := r.last(); l.Host != "nobody.invalid" {
		t.Errorf("reported %+v", l)
	}
}

// TestTargetOnTheWire (B-031): queries go on byte by byte, paths as they were written. Bytes that no target of HTTP/1.1
// can hold (RFC 9112 §3.2) are refused.
func TestTargetOnTheWire(t *testing.T) {
	t.Parallel()
	up := recorder(t)
	r := start(t, service("reviews", "HTTP", up), inboundOf(up))
	many := strings.Repeat("a=1&", 10_000) + "a=2"
	for _, c := range []struct {
		sent, want string
		refused    bool
	}{
		{sent: "/a?x;y=%zz&a=1&a=2&a"},
		{sent: "/a?" + many},
		{sent: "/a?"},
		{sent: "/a??x=?y"},
		{sent: "/a?x=\\^`{|}"},
		{sent: "/a?x=\"", refused: true},
		{sent: "/a?x=<>", refused: true},
		{sent: "/a?x=\xff", refused: true},
		{sent: "/a%2Fb%2f%5c"},
		{sent: "/a;b=c/@:!$&'()*+,[]"},
		{sent: "/a%2Fb|c^", want: "/a%2Fb%7Cc%5E"},
		{sent: `/a\b?c\d`, refused: true},
		{sent: `/a%2Fb"c`, refused: true},
		{sent: "/\xc3\xa4%2F", refused: true},
		{sent: "//a"},
		{sent: `/\a`, refused: true},
		{sent: "/x/../a", want: "/a"},
	} {
		if c.want == "" {
			c.want = c.sent
		}
		for side, address := range map[string]string{"inbound": r.sidecar.InboundAddrs()[0].String(), "outbound": r.sidecar.OutboundAddr().String()} {
			for _, target := range []string{c.sent, "http://reviews" + c.sent} {
				resp, got := exchange(t, address, "GET "+target+" HTTP/1.1\r\nHost: reviews\r\n\r\n")
				if c.refused && resp.StatusCode == http.StatusBadRequest && resp.Close {
					continue
				}
				if c.refused || got != "GET "+c.want+" HTTP/1.1|reviews" {
					t.Errorf("%s, %.60q: status %d, the upstream saw %.80q", side, target, resp.StatusCode, got)
				}
			}
		}
	}
}

// TestSecretBehindARule (B-030): no spelling of a path leads past the rule that is about it. The oracle is the
// secret itself, which net/http's own file server gives away for whatever it takes for the path. An encoded slash
// is the exception: to rules it is no slash (Istio's path normalisation BASE), and to that server it is one.
func TestSecretBehindARule(t *testing.T) {
	t.Parallel()
	const secret = "the secret itself"
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServerFS(fstest.MapFS{
		"private/secret.html": {Data: []byte(secret)}, "public/a.html": {Data: []byte("public")},
	}))
	up := upstream(t, mux)
	r := start(t, service("files", "HTTP", up)+`apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: files}
spec:
  hosts: [files]
  http:
  - match: [{uri: {prefix: /private}}]
    route: [{destination: {host: files, subset: nobody}}]
  - route: [{destination: {host: files}}]
`, nil)
	const path = "private/secret.html"
	targets := []string{"/" + path, "/./" + path, "/x/../" + path, "/x/..%2f" + path, "/%2f" + path, "//" + path, "///" + path, "/PRIVATE/secret.html",
		"/x/..;/" + path, `/\` + path, `\` + path, "/%00/" + path, "/%2e/" + path, "/%2e%2e/" + path, "/x/%2e%2e/" + path, "/x/.%2e/" + path, "/x/%2e./" + path,
		"/x%2f..%2f" + path, "/x%5c..%5c" + path, `/x\..\` + path, "/private%2fsecret.html", "/private%5csecret.html", `/private\secret.html`, "/private;a=b/secret.html",
		"/private//secret.html", "/private/./secret.html", "/private/x/../secret.html", "/" + path + "/", "/" + path + "/.", "/" + path + "?", "/" + path + "?/../..", "/" + path + "#",
		"/" + path + "%00", "/" + path + "%20", "/" + path + ".", "/public/../" + path, "/public/a.html/../../" + path, "/%252e%252e/" + path, "/x/%252e%252e/" + path,
		"HTTP://files//" + path, "http://files/" + path, "http://files/x/../" + path, "*/" + path, path, "./" + path, "/\t" + path, "/private/secret%2ehtml"}
	for i := range 256 {
		targets = append(targets, fmt.Sprintf("/%%%02x%s", i, path), fmt.Sprintf("/x/..%%%02x%s", i, path), fmt.Sprintf("/private%%%02xsecret.html", i),
			fmt.Sprintf("/%%25%02x%s", i, path), fmt.Sprintf("/x%%25%02x..%%25%02x%s", i, i, path))
	}
	for i := range len(path) { // each letter as an escape, and all the others beside it
		targets = append(targets, fmt.Sprintf("/%s%%%02x%s", path[:i], path[i], path[i+1:]), fmt.Sprintf("/%s%%%02X%s", path[:i], path[i], path[i+1:]))
	}
	pieces := []string{"/", `\`, ".", "..", "%2e", "%2f", "%5c", "private", "secret.html", "x", ";", "//", "%25", "%00", "public"}
	src := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var b strings.Builder
		for range 1 + src.IntN(8) {
			b.WriteString(pieces[src.IntN(len(pieces))])
		}
		targets = append(targets, "/"+b.String()+"/"+path, "/"+b.String())
	}
	c, br := dial(t, r.sidecar.OutboundAddr().String())
	for _, target := range targets {
		if _, err := io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: files\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, body := read(t, br, http.MethodGet)
		if strings.Contains(body, secret) && !strings.Contains(strings.ToLower(target), "%2f") {
			t.Errorf("%q gives the secret away", target)
		}
		if resp.Close {
			_ = c.Close()
			c, br = dial(t, r.sidecar.OutboundAddr().String())
		}
	}
	if _, body := exchange(t, r.sidecar.OutboundAddr().String(), "GET /public/a.html HTTP/1.1\r\nHost: files\r\n\r\n"); body != "public" {
		t.Errorf("what is public: %q", body)
	}
	if _, body := exchange(t, up, "GET /"+path+" HTTP/1.1\r\nHost: files\r\n\r\n"); body != secret {
		t.Errorf("without the rule: %q", body)
	}
}

// TestRefusedHosts (B-032, B-033): what has no host, or several, goes nowhere.
func TestRefusedHosts(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s %s reached the endpoint", r.Method, r.Host, r.RequestURI)
	}))
	r := start(t, service("reviews", "HTTP", up), func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} })
	long := strings.Repeat("a", 70<<10)
	for _, c := range []struct {
		request string
		status  []int
	}{
		{"GET / HTTP/1.1\r\nHost: reviews\r\nHost: reviews\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: reviews\r\nHost: ratings\r\n\r\n", nil},
		{"GET http://reviews/ HTTP/1.1\r\nHost: reviews\r\nHost: ratings\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\n\r\n", nil},
		{"GET http://reviews/ HTTP/1.1\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: u@reviews\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: reviews/p\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: reviews:0\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: reviews:+80\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: reviews:80:80\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: reviews..\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: .reviews\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: -reviews\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: r\xc3\xa9views\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: " + strings.Repeat("a.", 127) + "a\r\n\r\n", nil},
		{"GET http:///x HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET http://:80/x HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET http:/x HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET https:///x HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET reviews:80 HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET reviews HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET * HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET x/y HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET /a b HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET /a\tb HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET /a?b#c HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET http://reviews\\@elsewhere/ HTTP/1.1\r\nHost: reviews\r\n\r\n", nil},
		{"GET /" + long + " HTTP/1.1\r\nHost: reviews\r\n\r\n", []int{http.StatusRequestHeaderFieldsTooLarge}},
	} {
		if c.status == nil {
			c.status = []int{http.StatusBadRequest}
		}
		for side, address := range map[string]string{"outbound": r.sidecar.OutboundAddr().String(), "inbound": r.sidecar.InboundAddrs()[0].String()} {
			resp, _ := exchange(t, address, c.request)
			if !slices.Contains(c.status, resp.StatusCode) || !resp.Close {
				t.Errorf("%s, %.60q: status %d, close %v", side, c.request, resp.StatusCode, resp.Close)
			}
		}
	}
}
