package conformance

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// Requests by which somebody wants to get past a DENY that are written by hand, byte for byte: what the generator of the secret
// oracle does not come upon, because it is of the protocol and not of a spelling.

const bypassPolicies = `
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed}
spec:
  action: DENY
  rules:
  - to: [{operation: {paths: [/private, /private/*]}}]
  - to: [{operation: {hosts: [secret.example, 'secret.example:*']}}]
  - to: [{operation: {methods: [DELETE]}}]
  - when: [{key: 'request.headers[x-role]', values: [admin]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: badge}
spec:
  action: DENY
  rules:
  - to: [{operation: {paths: [/badge]}}]
    when: [{key: 'request.headers[x-badge]', notValues: [good]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: the-rest}
spec: {rules: [{}]}
`

// A lenientApp takes everything for the secret that some program might, and notes who has got so far.
type lenientApp struct {
	mu    sync.Mutex
	leaks []string
	seen  int
}

func (a *lenientApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // trailers come with its end
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen++
	if what := secretIn(r); what != "" {
		a.leaks = append(a.leaks, fmt.Sprintf("%s: %s %s, host %s, %v", what, r.Method, r.RequestURI, r.Host, r.Header))
	}
	_, _ = io.WriteString(w, "served")
}

// take gives who has got to the secret, and how many requests came.
func (a *lenientApp) take() (leaks []string, seen int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	leaks, seen = a.leaks, a.seen
	a.leaks, a.seen = nil, 0
	return leaks, seen
}

func secretIn(r *http.Request) string {
	target, _, _ := strings.Cut(r.RequestURI, "?")
	if u, err := url.Parse(target); err == nil && u.Host != "" {
		target = u.EscapedPath()
	}
	for _, p := range []string{r.URL.Path, r.URL.EscapedPath(), r.URL.Opaque, target} {
		for range 3 {
			p = path.Clean("/" + strings.ReplaceAll(p, `\`, "/"))
			if p == "/private" || strings.HasPrefix(p, "/private/") {
				return "path"
			}
			if again, err := url.PathUnescape(p); err == nil {
				p = again
			}
		}
	}
	for _, host := range []string{r.Host, r.URL.Host, r.Header.Get("Host")} {
		name, _, _ := strings.Cut(strings.ToLower(host), ":")
		if strings.TrimSuffix(name, ".") == "secret.example" {
			return "host"
		}
	}
	if strings.EqualFold(strings.TrimSpace(r.Method), "DELETE") {
		return "method"
	}
	for _, v := range r.Header["X-Role"] {
		for one := range strings.SplitSeq(v, ",") {
			if strings.TrimSpace(one) == "admin" {
				return "header"
			}
		}
	}
	if badge := r.Header["X-Badge"]; r.URL.Path == "/badge" && (len(badge) != 1 || badge[0] != "good") {
		return "badge"
	}
	return ""
}

// bypasses are what is written on connections of HTTP/1.1. Behind each comes a request that is served.
func bypasses() map[string]string {
	const host = "Host: h\r\n"
	get := func(target, fields string) string { return "GET " + target + " HTTP/1.1\r\n" + fields + "\r\n" }
	post := func(fields, body string) string { return "POST / HTTP/1.1\r\n" + host + fields + "\r\n" + body }
	all := map[string]string{
		"absolute target, other host":          get("http://secret.example/", host),
		"absolute target, port and dot":        get("http://SECRET.example.:80/", host),
		"absolute target, https":               get("https://secret.example/", host),
		"absolute target, path":                get("http://h/private/x", host),
		"absolute target, slashes":             get("HTTP://h//private/x", host),
		"absolute target, user":                get("http://h@secret.example/", host),
		"absolute target, backslash":           get(`http://h\private/x`, host),
		"absolute target without an authority": get("http:/private/x", host),
		"opaque target":                        get("http:private/x", host),
		"opaque target, other scheme":          get("x:/private/x", host),
		"no slash":                             get("private/x", host),
		"query only":                           get("?/../private/x", host),
		"authority for a target":               get("secret.example:80", host),
		"network path":                         get("//secret.example/private/../x", host),
		"network path, denied behind it":       get("//h/../private/x", host),
		"fragment":                             get("/x#/../private/x", host),
		"path behind a fragment":               get("/private/x#", host),
		"CONNECT":                              "CONNECT secret.example:80 HTTP/1.1\r\nHost: secret.example:80\r\n\r\n",
		"CONNECT, other Host":                  "CONNECT h:80 HTTP/1.1\r\nHost: secret.example\r\n\r\n",
		"CONNECT, path":                        "CONNECT /private/x HTTP/1.1\r\n" + host + "\r\n",
		"OPTIONS *, host":                      "OPTIONS * HTTP/1.1\r\nHost: secret.example\r\n\r\n",
		"OPTIONS, absolute":                    "OPTIONS http://secret.example HTTP/1.1\r\n" + host + "\r\n",
		"GET *":                                get("*", "Host: secret.example\r\n"),
		"method in small letters":              "delete / HTTP/1.1\r\n" + host + "\r\n",
		"method in both":                       "Delete / HTTP/1.1\r\n" + host + "\r\n",
		"DELETE":                               "DELETE / HTTP/1.1\r\n" + host + "\r\n",
		"two hosts":                            get("/", host+"Host: secret.example\r\n"),
		"two hosts, turned":                    get("/", "Host: secret.example\r\n"+host),
		"two hosts in one":                     get("/", "Host: h, secret.example\r\n"),
		"host, folded":                         get("/", "Host: h\r\n secret.example\r\n"),
		"host, port 0":                         get("/", "Host: secret.example:0\r\n"),
		"host, port of many digits":            get("/", "Host: secret.example:00000000080\r\n"),
		"host, other port":                     get("/", "Host: secret.example:8080\r\n"),
		"host, two dots":                       get("/", "Host: secret.example..\r\n"),
		"host, space before":                   get("/", "Host:\t secret.example\t\r\n"),
		"host, no break":                       get("/", "Host: secret.example\x0b\r\n"),
		"HTTP/1.0, host":                       "GET / HTTP/1.0\r\nHost: secret.example\r\n\r\n",
		"HTTP/1.0, absolute":                   "GET http://secret.example/ HTTP/1.0\r\n\r\n",
		"HTTP/1.0, path":                       "GET //private/x HTTP/1.0\r\n\r\n",
		"line ends alone":                      "GET /private/x HTTP/1.1\nHost: h\n\n",
		"tab in the line":                      "GET\t/private/x\tHTTP/1.1\r\n" + host + "\r\n",
		"two spaces":                           "GET  /private/x HTTP/1.1\r\n" + host + "\r\n",
		"version 1.2":                          "GET /private/x HTTP/1.2\r\n" + host + "\r\n",
		"no version":                           "GET /private/x\r\n",
		"empty lines before":                   "\r\n\r\nGET /private/x HTTP/1.1\r\n" + host + "\r\n",

		"field twice":                  get("/", host+"X-Role: user\r\nX-Role: admin\r\n"),
		"field in a list":              get("/", host+"X-Role: user , admin\r\n"),
		"field in capitals":            get("/", host+"X-ROLE: admin\r\n"),
		"field, tabs":                  get("/", host+"x-role:\tadmin\t\r\n"),
		"field, folded":                get("/", host+"X-Role: user,\r\n admin\r\n"),
		"field, space before colon":    get("/", host+"X-Role : admin\r\n"),
		"field behind a line end":      get("/", host+"X-A: b\nX-Role: admin\r\n"),
		"field behind CR":              get("/", host+"X-A: b\rX-Role: admin\r\n"),
		"field, first of all":          "GET / HTTP/1.1\r\n X-Role: admin\r\n" + host + "\r\n",
		"field is named by Connection": get("/", host+"Connection: X-Role\r\nX-Role: admin\r\n"),
		"field is named by two":        get("/", host+"Connection: keep-alive\r\nConnection: x-role, close\r\nX-Role: admin\r\n"),
		"badge is there twice":         get("/badge", host+"X-Badge: good\r\nX-Badge: bad\r\n"),
		"badge is not there":           get("/badge", host),
		"badge is empty":               get("/badge", host+"X-Badge:\r\n"),
		"badge in a list":              get("/badge", host+"X-Badge: good, bad\r\n"),
		"badge is named by Connection": get("/badge", host+"Connection: X-Badge\r\nX-Badge: bad\r\n"),
		"path by other fields":         get("/", host+"X-Original-URL: /private/x\r\nX-Rewrite-URL: /private/x\r\nX-Envoy-Original-Path: /private/x\r\nX-Forwarded-Prefix: /private\r\nX-Forwarded-Uri: /private/x\r\n"),
		"host by other fields":         get("/", host+"X-Forwarded-Host: secret.example\r\nForwarded: host=secret.example\r\nX-Host: secret.example\r\nX-Forwarded-Server: secret.example\r\n"),
		"method by other fields":       post("X-HTTP-Method-Override: DELETE\r\nX-Method-Override: DELETE\r\nContent-Length: 0\r\n", ""),
		"pseudo fields":                get("/", host+":path: /private/x\r\n:authority: secret.example\r\n"),

		"trailer":                  post("Transfer-Encoding: chunked\r\nTrailer: X-Role\r\n", "1\r\na\r\n0\r\nX-Role: admin\r\n\r\n"),
		"trailer without a word":   post("Transfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\nX-Role: admin\r\n\r\n"),
		"trailer, Host":            post("Transfer-Encoding: chunked\r\nTrailer: Host\r\n", "0\r\nHost: secret.example\r\n\r\n"),
		"a request in a body":      post("Content-Length: 37\r\n", "GET /private/x HTTP/1.1\r\nHost: h\r\n\r\n\r\n"),
		"a request behind another": get("/", host) + get("/private/x", host),
		"a request in a chunk":     post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "26\r\nGET /private/x HTTP/1.1\r\nHost: h\r\n\r\n\r\n0\r\n\r\n"),

		"websocket":      get("/private/x", host+"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
		"upgrade to TLS": get("/", host+"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n") + get("/private/x", host),
	}
	settings := base64.RawURLEncoding.EncodeToString([]byte{0, 3, 0, 0, 0, 100})
	all["h2c"] = get("/", host+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "+settings+"\r\n") + http2.ClientPreface +
		framesOf([]string{":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/private/x"}, nil, 3)
	all["h2c, denied at once"] = get("/private/x", host+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "+settings+"\r\n")
	all["preface behind a request"] = get("/", host) + http2.ClientPreface +
		framesOf([]string{":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/private/x"}, nil, 1)
	return all
}

// framesOf writes settings and one request of HTTP/2, fields and trailers as they are.
func framesOf(fields, trailers []string, stream uint32) string {
	var out, block bytes.Buffer
	f, enc := http2.NewFramer(&out, nil), hpack.NewEncoder(&block)
	head := func(fields []string, end bool) {
		block.Reset()
		for i := 0; i+1 < len(fields); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: end, EndHeaders: true})
	}
	_ = f.WriteSettings()
	head(fields, trailers == nil)
	if trailers != nil {
		_ = f.WriteData(stream, false, []byte("a"))
		head(trailers, true)
	}
	return out.String()
}

// bypasses2 are requests of HTTP/2: fields, and trailers behind "|".
func bypasses2() map[string][]string {
	with := func(pseudo map[string]string, more ...string) []string {
		var fields []string
		for _, name := range []string{":method", ":scheme", ":authority", ":path", ":protocol"} {
			v, own := pseudo[name]
			if !own {
				v = map[string]string{":method": "GET", ":scheme": "http", ":authority": "h", ":path": "/"}[name]
			}
			if v != "" {
				fields = append(fields, name, v)
			}
		}
		return append(fields, more...)
	}
	to := func(path string) []string { return with(map[string]string{":path": path}) }
	return map[string][]string{
		"nothing":               with(nil),
		"path without a slash":  to("private/x"),
		"path with a host":      to("http://h/private/x"),
		"path, other host":      to("http://secret.example/"),
		"path, network":         to("//secret.example/private/x"),
		"path, backslashes":     to(`/\private\x`),
		"path, encoded twice":   to("/%2570rivate/x"),
		"path, fragment":        to("/private/x#y"),
		"path, fragment before": to("/y#/../private/x"),
		"path is empty":         with(map[string]string{":path": "", ":method": "GET"}),
		"path is a star":        with(map[string]string{":path": "*", ":authority": "secret.example"}),
		"OPTIONS *":             with(map[string]string{":path": "*", ":method": "OPTIONS", ":authority": "secret.example"}),
		"two paths":             with(nil, ":path", "/private/x"),
		"path behind a field":   with(nil, "x-a", "b", ":path", "/private/x"),
		"two authorities":       with(nil, ":authority", "secret.example"),
		"authority in capitals": with(map[string]string{":authority": "SECRET.Example."}),
		"authority with a user": with(map[string]string{":authority": "h@secret.example"}),
		"authority, port":       with(map[string]string{":authority": "secret.example:080"}),
		"host alone":            with(map[string]string{":authority": ""}, "host", "secret.example"),
		"host beside":           with(nil, "host", "secret.example"),
		"host beside, same":     with(map[string]string{":authority": "secret.example"}, "host", "secret.example"),
		"host twice":            with(map[string]string{":authority": ""}, "host", "h", "host", "secret.example"),
		"neither":               with(map[string]string{":authority": "", ":path": "/private/x"}),
		"scheme":                with(map[string]string{":scheme": "https", ":path": "/private/x"}),
		"scheme of its own":     with(map[string]string{":scheme": "http://h/?", ":path": "/private/x"}),
		"method in small":       with(map[string]string{":method": "delete"}),
		"DELETE":                with(map[string]string{":method": "DELETE"}),
		"CONNECT":               {":method", "CONNECT", ":authority", "secret.example:80"},
		"CONNECT, path":         with(map[string]string{":method": "CONNECT", ":path": "/private/x"}),
		"CONNECT, websocket":    with(map[string]string{":method": "CONNECT", ":path": "/private/x", ":protocol": "websocket"}),
		"a pseudo field":        with(nil, ":x-role", "admin"),
		"field twice":           with(nil, "x-role", "user", "x-role", "admin"),
		"field in capitals":     with(nil, "X-Role", "admin"),
		"field, spaces":         with(nil, "x-role", " admin "),
		"field, line end":       with(nil, "x-a", "b\r\nx-role: admin"),
		"field, NUL":            with(nil, "x-role", "admin\x00"),
		"field named":           with(nil, "connection", "x-role", "x-role", "admin"),
		"upgrade":               with(nil, "connection", "upgrade", "upgrade", "h2c"),
		"badge twice":           with(map[string]string{":path": "/badge"}, "x-badge", "good", "x-badge", "bad"),
		"trailer":               with(map[string]string{":method": "POST"}, "trailer", "x-role", "|", "", "x-role", "admin"),
		"trailer, without word": with(map[string]string{":method": "POST"}, "|", "", "x-role", "admin"),
		"trailer, pseudo":       with(map[string]string{":method": "POST"}, "|", "", ":path", "/private/x"),
		"trailer, host":         with(map[string]string{":method": "POST"}, "trailer", "host", "|", "", "host", "secret.example"),
		"RPC without a slash":   with(map[string]string{":method": "POST", ":path": "private/x"}, "content-type", "application/grpc", "te", "trailers"),
		"RPC":                   with(map[string]string{":method": "POST", ":path": "/private/x"}, "content-type", "application/grpc", "te", "trailers"),
		"RPC, network path":     with(map[string]string{":method": "POST", ":path": "//private/x"}, "content-type", "application/grpc", "te", "trailers"),
		"RPC, other subtype":    with(map[string]string{":method": "POST", ":path": "/private/x"}, "content-type", "application/grpc+json;x"),
		"path by other fields":  with(nil, "x-original-url", "/private/x", "x-envoy-original-path", "/private/x", "x-forwarded-host", "secret.example"),
	}
}

// TestNoWayRound: none of them gets to what the policies deny (attacks.md B-032, B-033, B-035, B-038).
func TestNoWayRound(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			app := new(lenientApp)
			addr := f.serve(t, inboundMesh(t, bypassPolicies), app)
			served := 0
			judge := func(name string) {
				leaks, seen := app.take()
				served += seen
				for _, leak := range leaks {
					t.Errorf("%s gets to the %s", name, leak)
				}
			}
			if f.http2 {
				for name, fields := range bypasses2() {
					overHTTP2(t, addr, fields)
					judge(name)
				}
			} else {
				for name, request := range bypasses() {
					overHTTP1(t, addr, request)
					judge(name)
				}
			}
			if served < 4 {
				t.Errorf("%d requests are served: nothing was attacked", served)
			}
		})
	}
	t.Run("gRPC server", func(t *testing.T) {
		t.Parallel()
		app := new(lenientApp)
		addr := serveRPCs(t, inboundMesh(t, bypassPolicies), app)
		served := 0
		for name, fields := range bypasses2() {
			overHTTP2(t, addr, asRPC(fields))
			leaks, seen := app.take()
			served += seen
			for _, leak := range leaks {
				t.Errorf("%s gets to the %s", name, leak)
			}
		}
		if served < 4 {
			t.Errorf("%d RPCs are served: nothing was attacked", served)
		}
	})
	t.Run("without policies", func(t *testing.T) {
		t.Parallel()
		app, missed := new(lenientApp), 0
		addr := plainServer(t, app)
		for _, request := range bypasses() {
			overHTTP1(t, addr, request)
			if leaks, _ := app.take(); len(leaks) == 0 {
				missed++
			}
		}
		if found := len(bypasses()) - missed; found < 25 {
			t.Errorf("%d requests get to the secret of a program that has no policies: the program is not lenient", found)
		}
	})
}

// serveRPCs stands a program behind a gRPC server that takes every method.
func serveRPCs(t *testing.T, m *mesh.Mesh, app http.Handler) string {
	t.Helper()
	srv := grpc.NewServer(append(grpcmesh.ServerOptions(m), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		md, _ := metadata.FromIncomingContext(s.Context())
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.RequestURI, r.URL, r.Header, r.Host = method, &url.URL{Path: method}, http.Header{}, strings.Join(md[":authority"], ",")
		for name, values := range md {
			r.Header[http.CanonicalHeaderKey(name)] = values
		}
		app.ServeHTTP(httptest.NewRecorder(), r)
		return nil
	}))...)
	l := listenLocal(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
	return l.Addr().String()
}

// asRPC makes an RPC of a request that is GET.
func asRPC(fields []string) []string {
	rpc, typed := slices.Clone(fields), false
	for i := 0; i+1 < len(rpc); i += 2 {
		if rpc[i] == ":method" && rpc[i+1] == "GET" {
			rpc[i+1] = "POST"
		}
		if rpc[i] == ":path" && rpc[i+1] == "/" {
			rpc[i+1] = "/pkg.Service/Method"
		}
		typed = typed || rpc[i] == "content-type"
	}
	if at := slices.Index(rpc, "|"); !typed {
		if at < 0 {
			at = len(rpc)
		}
		rpc = slices.Insert(rpc, at, "content-type", "application/grpc", "te", "trailers")
	}
	return rpc
}

// overHTTP1 writes a request and one behind it, and reads to the end.
func overHTTP1(t *testing.T, addr, request string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(c, request+"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	_, _ = io.Copy(io.Discard, c)
}

// overHTTP2 sends a request, and reads until it has an answer or none is to come.
func overHTTP2(t *testing.T, addr string, fields []string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	var trailers []string
	for i := range fields {
		if fields[i] == "|" {
			fields, trailers = fields[:i], fields[i+2:]
			break
		}
	}
	_, _ = io.WriteString(c, http2.ClientPreface+framesOf(fields, trailers, 1))
	f := http2.NewFramer(io.Discard, bufio.NewReader(c))
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return
		case *http2.HeadersFrame:
			if frame.StreamEnded() {
				return
			}
		case *http2.DataFrame:
			if frame.StreamEnded() {
				return
			}
		}
	}
}
