package conformance

import (
	"net/http"
	"strings"
)

// directRows: HTTPRoute.directResponse.
func directRows() []Case {
	const (
		cite     = "§2.2 DirectResponse"
		bodiless = cite + "; RFC 9110 §8.6, §15.3.5, §15.4.5 (neither body nor length)"
		edits    = cite + "; §2.2 Headers (Envoy finalizeResponseHeaders of a direct response)"
		rpc      = cite + "; §3.6; grpc http-grpc-status-mapping"
	)
	teapot := answering("", `directResponse: {status: 418, body: {string: "a teapot"}}`)
	said := func(status int, text string, h http.Header) Result {
		return Result{Route: "r", Status: status, Details: direct, Text: text, Answer: h}
	}
	toRPC := Request{Method: "POST", URL: reviewsURL + "s.S/M", Header: http.Header{"Content-Type": {"application/grpc"}}}
	big := strings.Repeat("0123456789abcdef", 4<<10)
	rows := []Case{
		{Name: "status and text", Cite: cite, Config: teapot, Request: get(reviewsURL), Want: said(418, "a teapot", http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"8"}})},
		{Name: "bytes", Cite: cite + " (body string or bytes)", Config: answering("", "directResponse: {status: 200, body: {bytes: aMOp}}"), Request: get(reviewsURL), Want: said(200, "h\xc3\xa9", nil)},
		{Name: "no body", Cite: cite, Config: answering("", "directResponse: {status: 503}"), Request: get(reviewsURL), Want: said(503, "", http.Header{"Content-Type": nil, "Content-Length": {"0"}})},
		{Name: "a long body", Cite: cite + " (up to 1 MB)", Config: answering("", "directResponse: {status: 200, body: {string: "+big+"}}"), Request: get(reviewsURL), Want: said(200, big, nil)},
		{Name: "HEAD", Cite: cite + "; RFC 9110 §9.3.2 (no body, its length)", Config: teapot, Request: Request{Method: "HEAD", URL: reviewsURL}, Want: said(418, "", http.Header{"Content-Length": {"8"}})},
		{Name: "204", Cite: bodiless, Config: answering("", "directResponse: {status: 204}"), Request: get(reviewsURL), Repeat: 2, Want: said(204, "", http.Header{"Content-Type": nil, "Content-Length": nil})},
		{Name: "204 with a body", Cite: bodiless, Config: answering("", "directResponse: {status: 204, body: {string: x}}"), Request: get(reviewsURL), Repeat: 2, Want: said(204, "", http.Header{"Content-Type": nil, "Content-Length": nil})},
		{Name: "304 with a body", Cite: bodiless, Config: answering("", "directResponse: {status: 304, body: {string: x}}"), Request: get(reviewsURL), Repeat: 2, Want: said(304, "", http.Header{"Content-Type": nil})},
		{Name: "304 to HEAD", Cite: bodiless, Config: answering("", "directResponse: {status: 304, body: {string: x}}"), Request: Request{Method: "HEAD", URL: reviewsURL}, Repeat: 2, Want: said(304, "", http.Header{"Content-Type": nil})},
		{Name: "nothing is sent", Cite: cite + " (answered locally); §2.2 Retries", Config: answering("", "directResponse: {status: 503}, retries: {attempts: 3, retryOn: 5xx}"),
			Request: Request{Method: "POST", URL: reviewsURL, Body: strings.Repeat("x", 10<<10)}, Repeat: 3, Want: said(503, "", nil)},
		{Name: "for one path", Cite: cite, Config: answering("[{uri: {exact: /robots.txt}}]", "directResponse: {status: 404}"), Request: get(reviewsURL + "robots.txt"), Want: said(404, "", nil)},
		{Name: "other paths go on", Cite: cite, Config: answering("[{uri: {exact: /robots.txt}}]", "directResponse: {status: 404}"), Request: get(reviewsURL + "robots"), Want: Result{Route: "rest", Endpoint: v1}},
		{Name: "its type is edited", Cite: edits, Config: answering("", `directResponse: {status: 200, body: {string: "{}"}}, headers: {response: {set: {content-type: application/json}}}`),
			Request: get(reviewsURL), Want: said(200, "{}", http.Header{"Content-Type": {"application/json"}})},
		{Name: "its type is removed", Cite: edits, Config: answering("", `directResponse: {status: 200, body: {string: x}}, headers: {response: {remove: [content-type]}}`),
			Request: get(reviewsURL), Want: said(200, "x", http.Header{"Content-Type": nil})},
		{Name: "its header tells of the request", Cite: edits, Config: answering("", `directResponse: {status: 418}, headers: {response: {set: {x-who: "%REQ(x-user)%", x-code: "%RESPONSE_CODE%", x-rule: "%ROUTE_NAME%"}}}`),
			Request: Request{URL: reviewsURL, Header: http.Header{"X-User": {"jason"}}}, Want: said(418, "", http.Header{"X-Who": {"jason"}, "X-Code": {"418"}, "X-Rule": {"r"}})},
		{Name: "request operations mean nothing", Cite: edits, Config: answering("", `directResponse: {status: 418}, headers: {request: {set: {x-a: b}}}`), Request: get(reviewsURL), Want: said(418, "", http.Header{"X-A": nil})},
		{Name: "the text is an RPC's message", Cite: rpc + " (418 is UNKNOWN); gRPC over HTTP/2, Status-Message", Config: answering("", `directResponse: {status: 418, body: {string: "100 % tea"}}`), Request: toRPC,
			Want: Result{Details: direct, GRPC: 2, Answer: http.Header{"Grpc-Message": {"100 %25 tea"}, "Content-Type": {"application/grpc"}}}, Except: map[string]string{grpcDriver: "grpc-go gives the message decoded: the next row"}},
		{Name: "the text is an RPC's message, decoded", Cite: rpc, Config: answering("", `directResponse: {status: 418, body: {string: "100 % tea"}}`), Request: toRPC, Want: Result{Details: direct, GRPC: 2, Text: "100 % tea"},
			Except: map[string]string{HTTP{}.Name(): inHeader, Proxy{}.Name(): inHeader, Proxy{ByHost: true}.Name(): inHeader}},
	}
	for _, m := range []struct {
		name, status string
		grpc         int
	}{
		{"200 is UNKNOWN to an RPC", "200", 2}, {"400 is INTERNAL to an RPC", "400", 13}, {"401 is UNAUTHENTICATED to an RPC", "401", 16},
		{"403 is PERMISSION_DENIED to an RPC", "403", 7}, {"404 is UNIMPLEMENTED to an RPC", "404", 12}, {"429 is UNAVAILABLE to an RPC", "429", 14},
		{"503 is UNAVAILABLE to an RPC", "503", 14},
	} {
		rows = append(rows, Case{Name: m.name, Cite: rpc, Config: answering("", "directResponse: {status: "+m.status+"}"), Request: toRPC, Want: Result{Details: direct, GRPC: m.grpc}})
	}
	return rows
}

const inHeader = "over HTTP the message is in the header: the row before"
