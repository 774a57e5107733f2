package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"github.com/heddlemesh/mesh/proxy"
)

// rulesOf are what a rule of a VirtualService does beside choosing a destination, as the budget counts it.
var rulesOf = []struct {
	name, rule string
	most       float64
}{
	{"no rule", "", 0},
	{"a route", "route: [{destination: {host: reviews}}]", 0},
	{"header operations", `headers: {request: {set: {x-env: test, x-agent: "%REQ(user-agent)%"}, add: {x-env: more}, remove: [accept]},
      response: {set: {x-env: "test %RESPONSE_CODE%"}, remove: [content-type]}}, route: [{destination: {host: reviews}, headers: {request: {add: {x-subset: v1}}}}]`, 0},
	{"redirect", "redirect: {prefixRewrite: /new, authority: other.example.com, redirectCode: 308}, headers: {response: {set: {x-env: test}}}", 0},
	{"direct response", "directResponse: {status: 503, body: {string: closed}}", 0},
	{"rewrite", "rewrite: {uri: /new, authority: other.example.com}, route: [{destination: {host: reviews}}]", 0},
	{"cors", "corsPolicy: {allowOrigins: [{exact: https://shop.example.com}], allowCredentials: true}, route: [{destination: {host: reviews}}]", 0},
	{"timeout", "timeout: 10s, route: [{destination: {host: reviews}}]", 0},
	{"regex rewrite", `rewrite: {uriRegexRewrite: {match: "^/reviews/(.*)$", rewrite: '/new/\1'}}, route: [{destination: {host: reviews}}]`, 4}, // package regexp's own
}

// TestAllocs (DESIGN.md §6): in steady state a request costs no allocation, in either direction, over real sockets, whatever
// its rule does with it.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	up := answering(t)
	for _, c := range rulesOf {
		config := service("reviews", "HTTP", up)
		if c.rule != "" {
			config += "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec: {hosts: [reviews], http: [{match: [{uri: {prefix: /reviews}}], " + c.rule + "}]}\n"
		}
		r := start(t, config, func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} })
		ways := map[string]net.Addr{"outbound": r.sidecar.OutboundAddr()}
		if c.rule == "" {
			ways["inbound"] = r.sidecar.InboundAddrs()[0]
		}
		for way, address := range ways {
			if each := allocsOf(t, address.String()); each >= c.most+0.1 {
				t.Errorf("%s, %s: %.2f allocations a request, the budget is %v", way, c.name, each, c.most)
			} else {
				t.Logf("%s, %s: %.4f allocations a request", way, c.name, each)
			}
		}
	}
}

// answering serves every request with the same answer, and allocates nothing for it.
func answering(t *testing.T) string {
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 5\r\n\r\nhello")
	return raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				if _, err := c.Write(response); err != nil {
					return
				}
			}
		}
	})
}

// TestPolicyAllocs: nor does it cost any that policies decide on it.
func TestPolicyAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	up := answering(t)
	const policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: %s}\nspec: {action: %s, rules: [{to: [{operation: {paths: [%s], hosts: [reviews]}}], when: [{key: 'request.headers[accept]', values: ['*']}]}]}\n---\n"
	for name, config := range map[string]string{
		"policies": fmt.Sprintf(policy, "a", "DENY", "/admin*") + fmt.Sprintf(policy, "b", "ALLOW", "/reviews/*"),
		"tokens, none sent": `apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: t}
spec: {jwtRules: [{issuer: a, jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'}]}
`,
	} {
		r := start(t, config, func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} })
		if each := allocsOf(t, r.sidecar.InboundAddrs()[0].String()); each >= 0.1 {
			t.Errorf("%s: %.2f allocations a request, the budget is 0", name, each)
		}
	}
}

// allocsOf counts the allocations of a request in steady state.
func allocsOf(t *testing.T, address string) float64 {
	t.Helper()
	sent := []byte("GET /reviews/1?x=y HTTP/1.1\r\nHost: reviews\r\nOrigin: https://shop.example.com\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// All answers are as long as the first.
	var first bytes.Buffer
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(c, &first)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	want := first.Bytes()
	got := make([]byte, len(want))
	exchange := func() {
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got[:12], want[:12]) || !bytes.Equal(got[len(got)-5:], want[len(want)-5:]) {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	for range 1000 {
		exchange()
	}
	const n = 5_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		exchange()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / n
}
