package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/proxy"
)

// mirrorHead answers with what it was sent: request line, sorted fields but for those that differ by nature, body.
func mirrorHead(t *testing.T) string {
	return raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if req.URL.Path == "/hang" {
				_, _ = io.Copy(io.Discard, br)
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			var lines []string
			for k, v := range req.Header {
				if k == "X-Request-Start" {
					continue
				}
				lines = append(lines, fmt.Sprintf("%s: %q", k, v))
			}
			slices.Sort(lines)
			said := fmt.Sprintf("%s %s %s %v\n%s\n%s\n%v", req.Method, req.RequestURI, req.Host, req.TransferEncoding, strings.Join(lines, "\n"), body, req.Trailer)
			if req.Method == http.MethodHead {
				said = ""
			}
			_, _ = fmt.Fprintf(c, "HTTP/1.1 201 Created\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nX-Up: 1\r\nX-Up: 2\r\nServer: up\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
		}
	})
}

const alikeRules = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /redirect}}]
    redirect: {uri: /elsewhere, authority: other.example, redirectCode: 308}
  - match: [{uri: {prefix: /direct}}]
    directResponse: {status: 418, body: {string: "a teapot"}}
    headers: {response: {set: {x-direct: "%REQ(x-user)%"}}}
  - match: [{uri: {prefix: /nothing}}]
    directResponse: {status: 204}
  - match: [{uri: {prefix: /abort}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 521}}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /delay}}]
    fault: {delay: {percentage: {value: 100}, fixedDelay: 20ms}}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /old/}}]
    rewrite: {uri: /new/, authority: inside.example}
    headers:
      request: {set: {x-set: "<%REQ(x-user)%>", x-user: replaced}, add: {x-many: third}, remove: [x-gone, user-agent]}
      response: {set: {x-up: only}, add: {x-more: "%RESPONSE_CODE%"}, remove: [server]}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /cors}}]
    corsPolicy: {allowOrigins: [{exact: "http://a.example"}], allowMethods: [GET, PUT], allowHeaders: [x-a], maxAge: 1h}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /hang}}]
    timeout: 100ms
    route: [{destination: {host: reviews}}]
  - match: [{headers: {x-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: nobody}}]
  - match: [{uri: {prefix: /}, headers: {connection: {regex: ".*"}}}]
    directResponse: {status: 418}
  - route: [{destination: {host: reviews}}]
`

// TestWireLikeHandler: what the wire makes of a request is what the forwarder over net/http makes of it, to the field,
// in both directions, whatever the rules do.
func TestWireLikeHandler(t *testing.T) {
	t.Parallel()
	r := start(t, service("reviews", "HTTP", mirrorHead(t))+alikeRules, nil)
	srv := httptest.NewUnstartedServer(proxy.Outbound(r.mesh, nil))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Start()
	t.Cleanup(srv.Close)
	said := func(address, request, method string) string {
		c, br := dial(t, address)
		defer c.Close()
		send(t, c, request)
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return err.Error()
		}
		body, err := io.ReadAll(resp.Body)
		var lines []string
		for k, v := range resp.Header {
			if k != "Date" {
				lines = append(lines, fmt.Sprintf("%s: %q", k, v))
			}
		}
		slices.Sort(lines)
		return fmt.Sprintf("%d %v %v\n%s\n%s\n%v", resp.StatusCode, resp.ContentLength, resp.Close, strings.Join(lines, "\n"), body, err)
	}
	const fields = "Host: Reviews:80\r\nX-User: ann\r\nX-Many: first\r\nX-Many: second\r\nX-Gone: 1\r\nUser-Agent: u\r\nAccept: */*\r\n"
	for _, c := range []struct{ name, method, path, more, body string }{
		{"plain", "GET", "/a/../b?c=d", "", ""},
		{"no change", "GET", "/a?", "", ""},
		{"HEAD", "HEAD", "/a", "", ""},
		{"a method of one's own", "BREW", "/a", "", ""},
		{"connection fields", "GET", "/a", "Connection: keep-alive, x-many\r\nKeep-Alive: 5\r\nTE: trailers, gzip\r\n", ""},
		{"hidden from rules", "GET", "/a", "Connection: x-hidden\r\nX-Hidden: 1\r\nX-Heddle-A: 1\r\n", ""},
		{"length", "POST", "/a", "Content-Length: 5\r\nContent-Type: a/b\r\n", "hello"},
		{"no length", "POST", "/a", "Content-Length: 0\r\n", ""},
		{"chunks", "POST", "/a", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{"redirect", "GET", "/redirect/x?y", "", ""},
		{"redirect of HEAD", "HEAD", "/redirect/x?y", "", ""},
		{"redirect with a body", "POST", "/redirect", "Content-Length: 5\r\n", "hello"},
		{"direct response", "GET", "/direct", "", ""},
		{"direct response without one", "GET", "/nothing", "", ""},
		{"abort", "GET", "/abort", "", ""},
		{"abort of gRPC", "POST", "/abort", "Content-Type: application/grpc\r\n", ""},
		{"delay", "GET", "/delay", "", ""},
		{"rewrite and edits", "GET", "/old/x?y=z", "", ""},
		{"rewrite of a body", "PUT", "/old/x", "Content-Length: 5\r\n", "hello"},
		{"edits of chunks", "PUT", "/old/x", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"},
		{"preflight", "OPTIONS", "/cors", "Origin: http://a.example\r\nAccess-Control-Request-Method: PUT\r\n", ""},
		{"allowed origin", "GET", "/cors", "Origin: http://a.example\r\n", ""},
		{"another origin", "GET", "/cors", "Origin: http://b.example\r\n", ""},
		{"time-out", "GET", "/hang", "", ""},
		{"no such subset", "GET", "/x", "X-User: jason\r\n", ""},
		{"bad path", "GET", "/%00", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := c.method + " " + c.path + " HTTP/1.1\r\n" + fields + c.more + "\r\n" + c.body
			want, got := said(srv.Listener.Addr().String(), text, c.method), said(r.sidecar.OutboundAddr().String(), text, c.method)
			if got != want {
				t.Errorf("on the wire:\n%s\n\nby the handler:\n%s", got, want)
			}
		})
	}
}

// TestClientGoneWhileStreaming (B-095): an endpoint that says nothing does not work on for a client that has gone. How soon
// it is left, TestLeftInTime says.
func TestClientGoneWhileStreaming(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 2)
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n")
		_, _ = io.Copy(io.Discard, br)
		ended <- struct{}{}
	})
	r, addresses := both(t, up)
	for _, address := range addresses {
		c, br := dial(t, address)
		send(t, c, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(err)
		}
		_ = c.Close()
		<-ended
	}
	for _, cl := range r.mesh.Status().Clusters {
		for _, e := range cl.Endpoints {
			if e.Counts.Failed != 0 {
				t.Errorf("the endpoint is blamed: %+v", e.Counts)
			}
		}
	}
}

// TestOutsideTheMesh: hosts that the mesh does not know are reached with all that HTTP/1.1 has.
func TestOutsideTheMesh(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-In"))
	}))
	r := start(t, "", nil)
	address := r.sidecar.OutboundAddr().String()
	c, br := dial(t, address)
	for _, e := range []struct{ request, method, want string }{
		{"GET http://" + up + "/a%2Fb?x HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "GET /a%2Fb?x "},
		{"HEAD / HTTP/1.1\r\nHost: " + up + "\r\n\r\n", "HEAD", ""},
		{"POST /p HTTP/1.1\r\nHost: " + up + "\r\nContent-Length: 5\r\n\r\nhello", "POST", "POST /p hello"},
		{"POST /p HTTP/1.1\r\nHost: " + up + "\r\nTransfer-Encoding: chunked\r\nTrailer: X-In\r\n\r\n5\r\nhello\r\n0\r\nX-In: 7\r\n\r\n", "POST", "POST /p hello"},
		{"POST /p HTTP/1.1\r\nHost: " + up + "\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "POST", "POST /p hello"},
		{"GET /last HTTP/1.0\r\nHost: " + up + "\r\n\r\n", "GET", "GET /last "},
	} {
		send(t, c, e.request)
		resp, err := http.ReadResponse(br, &http.Request{Method: e.method})
		for err == nil && resp.StatusCode == http.StatusContinue {
			resp, err = http.ReadResponse(br, &http.Request{Method: e.method})
		}
		if err != nil {
			t.Fatalf("%q: %v", e.request, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || string(body) != e.want {
			t.Errorf("%q: status %d, %q, %v", e.request, resp.StatusCode, body, err)
		}
		if strings.Contains(e.request, "X-In: 7") && resp.Trailer.Get("X-Sum") != "7" {
			t.Errorf("trailers %v", resp.Trailer)
		}
	}
	release := make(chan struct{})
	close(release)
	chat := raw(t, echo(t, release, nil))
	c, br = dial(t, address)
	send(t, c, strings.Replace(upgradeRequest, "Host: reviews", "Host: "+chat, 1)+"early ")
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	send(t, c, "hello")
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(br); err != nil || string(got) != "EARLY HELLObye" {
		t.Errorf("%q, %v", got, err)
	}
}
