package conformance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/extauthz"
	"github.com/heddlemesh/mesh/identity/external"
)

// asks is a CUSTOM policy for everything, or for what rule selects.
func asks(rule string) string {
	return policy("ask", "{action: CUSTOM, provider: {name: opa}, rules: ["+rule+"]}")
}

// provided writes the mesh's settings with the provider "opa" of a kind, and its service on a port of this machine.
func provided(kind, settings, address string) string {
	_, port, _ := net.SplitHostPort(address)
	protocol := "HTTP"
	if kind == "envoyExtAuthzGrpc" {
		protocol = "GRPC"
	}
	return "---\napiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec:\n  extensionProviders:\n  - name: opa\n    " + kind +
		": {service: opa.example, port: 9191" + settings + "}\n" +
		"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: opa}\nspec:\n  hosts: [opa.example]\n  resolution: STATIC\n" +
		"  ports: [{number: 9191, name: p, protocol: " + protocol + "}]\n  endpoints: [{address: 127.0.0.1, ports: {p: " + port + "}}]\n"
}

// An externalRow is what the provider is like, what it says, and what becomes of the request.
type externalRow struct {
	name     string
	settings string // of the provider, ", failOpen: true"
	rule     string // of the policy; "" for {}
	more     string // documents beside it
	visit    visit
	says     func(w http.ResponseWriter, r *http.Request)
	asked    string // lines that the authorizer saw
	unasked  bool
	outcome
}

// seen makes lines of a request.
func seen(r *http.Request, body []byte) string {
	lines := []string{"method=" + r.Method, "target=" + r.RequestURI, "host=" + r.Host, "body=" + string(body)}
	for name, values := range r.Header {
		for _, v := range values {
			lines = append(lines, name+"="+v)
		}
	}
	return strings.Join(lines, "\n")
}

// wantLines holds lines against "X-A=b !X-C".
func wantLines(t *testing.T, who, text, want string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	for _, w := range strings.Fields(want) {
		name, missing := strings.CutPrefix(w, "!")
		w = strings.ReplaceAll(w, "_", " ")
		has := slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+"=") })
		if missing && has || !missing && !slices.Contains(lines, w) {
			t.Errorf("%s: %q, want %s", who, lines, w)
		}
	}
}

func says(status int, body string, header ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func externalRows() []externalRow {
	post := func(body string) visit { return visit{method: "POST", body: body} }
	with := func(header ...string) visit {
		h := make(http.Header)
		for i := 0; i < len(header); i += 2 {
			h.Add(header[i], header[i+1])
		}
		return visit{header: h}
	}
	return []externalRow{
		{name: "allowed", says: says(200, ""), asked: "method=GET target=/reviews/1 host=web body= !User-Agent", outcome: outcome{status: 200}},
		{name: "denied", says: says(401, "go away", "Www-Authenticate", "Basic", "X-Why", "because", "Set-Cookie", "a=b", "Set-Cookie", "c=d"), outcome: outcome{status: 401, body: "go away", header: "Www-Authenticate=Basic X-Why=because Set-Cookie=a=b Set-Cookie=c=d"}},
		{name: "redirected", says: says(302, "", "Location", "https://login.example/"), outcome: outcome{status: 302, header: "Location=https://login.example/"}},
		{name: "denied as JSON", says: says(403, "{}", "Content-Type", "application/json"), outcome: outcome{status: 403, body: "{}", header: "Content-Type=application/json"}},
		{name: "2xx other than 200 denies", says: says(204, ""), outcome: outcome{status: 204}},
		{name: "not selected", rule: "{to: [{operation: {paths: [/admin]}}]}", says: says(403, ""), unasked: true, outcome: outcome{status: 200}},
		{name: "selected in another spelling", rule: "{to: [{operation: {paths: [/admin]}}]}", visit: visit{target: "/x/..//%61dmin?a=%2f"}, says: says(403, ""), asked: "target=//admin?a=%2f", outcome: outcome{status: 403}},
		{name: "CUSTOM before DENY", more: policy("d", "{action: DENY, rules: [{}]}"), says: says(401, "no"), outcome: outcome{status: 401, body: "no"}},
		{name: "DENY after CUSTOM", more: policy("d", "{action: DENY, rules: [{}]}"), says: says(200, ""), outcome: outcome{status: 403, body: "RBAC: access denied"}},
		{name: "ALLOW after CUSTOM", more: policy("d", "{rules: [{to: [{operation: {paths: [/x]}}]}]}"), says: says(200, ""), outcome: outcome{status: 403, body: "RBAC: access denied"}},
		{name: "CUSTOM before JWT", more: authentication("r", "https://issuer.example", ""), visit: with("Authorization", "Bearer x"), says: says(402, ""), asked: "Authorization=Bearer_x", outcome: outcome{status: 402}},
		{name: "JWT after CUSTOM", more: authentication("r", "https://issuer.example", ""), visit: with("Authorization", "Bearer x"), says: says(200, ""), outcome: outcome{status: 401, body: "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"}},

		{name: "no fields but those included", visit: with("X-A", "1", "Cookie", "c"), says: says(200, ""), asked: "!X-A !Cookie", outcome: outcome{status: 200}},
		{name: "includeRequestHeadersInCheck", settings: ", includeRequestHeadersInCheck: [x-a, 'x-b-*', '*-c']", visit: with("X-A", "1", "X-B-1", "2", "My-C", "3", "X-D", "4"), says: says(200, ""), asked: "X-A=1 X-B-1=2 My-C=3 !X-D", outcome: outcome{status: 200}},
		{name: "includeHeadersInCheck", settings: ", includeHeadersInCheck: [X-A]", visit: with("X-A", "1"), says: says(200, ""), asked: "X-A=1", outcome: outcome{status: 200}},
		{name: "includeAdditionalHeadersInCheck", settings: ", includeRequestHeadersInCheck: [x-a], includeAdditionalHeadersInCheck: {x-a: mesh}", visit: with("X-A", "1"), says: says(200, ""), asked: "X-A=mesh", outcome: outcome{status: 200, sees: "X-A=1"}},
		{name: "pathPrefix", settings: ", pathPrefix: /check", visit: visit{target: "/a?b=c"}, says: says(200, ""), asked: "target=/check/a?b=c", outcome: outcome{status: 200, sees: "target=/a?b=c"}},
		{name: "the method", visit: visit{method: "DELETE"}, says: says(200, ""), asked: "method=DELETE", outcome: outcome{status: 200}},

		{name: "no body", visit: post("secret"), says: says(200, ""), asked: "body= !X-Envoy-Auth-Partial-Body", outcome: outcome{status: 200, sees: "body=secret"}},
		{name: "includeRequestBodyInCheck", settings: ", includeRequestBodyInCheck: {maxRequestBytes: 6}", visit: post("secret"), says: says(200, ""), asked: "body=secret X-Envoy-Auth-Partial-Body=false Content-Length=6", outcome: outcome{status: 200, sees: "body=secret"}},
		{name: "maxRequestBytes", settings: ", includeRequestBodyInCheck: {maxRequestBytes: 5}", visit: post("secret"), says: says(200, ""), unasked: true, outcome: outcome{status: 413, body: "Payload Too Large"}},
		{name: "allowPartialMessage", settings: ", includeRequestBodyInCheck: {maxRequestBytes: 5, allowPartialMessage: true}", visit: post("secret"), says: says(200, ""), asked: "body=secre X-Envoy-Auth-Partial-Body=true", outcome: outcome{status: 200, sees: "body=secret"}},
		{name: "a large body after its beginning", settings: ", includeRequestBodyInCheck: {maxRequestBytes: 5, allowPartialMessage: true}", visit: post(strings.Repeat("secret", 100_000)), says: says(200, ""), asked: "body=secre", outcome: outcome{status: 200, sees: "body=" + strings.Repeat("secret", 100_000)}},

		{name: "nothing for the program", says: says(200, "", "X-User", "alice"), visit: with("X-User", "root"), outcome: outcome{status: 200, sees: "X-User=root"}},
		{name: "headersToUpstreamOnAllow", settings: ", headersToUpstreamOnAllow: [x-user, 'x-g*']", says: says(200, "", "X-User", "alice", "X-Groups", "a", "X-Groups", "b", "X-No", "1"), visit: with("X-User", "root", "x-user", "admin"), outcome: outcome{status: 200, sees: "X-User=alice X-Groups=a X-Groups=b !X-No"}},
		{name: "what the program must not see", says: says(200, "", "X-Envoy-Auth-Headers-To-Remove", "authorization, X-A"), visit: with("Authorization", "Basic x", "X-A", "1", "X-B", "2"), outcome: outcome{status: 200, sees: "!Authorization !X-A X-B=2 !X-Envoy-Auth-Headers-To-Remove"}},
		{name: "what nobody may change", settings: ", headersToUpstreamOnAllow: ['x-*', host, connection, content-length, 'te']", says: says(200, "", "X-Forwarded-Client-Cert", "Hash=1;URI=spiffe://a/b", "X_Forwarded_Client_Cert", "x", "X-Heddle-Check", "1", "Te", "trailers", "X-Ok", "1",
			"X-Envoy-Auth-Headers-To-Remove", "host, content-length, :path, transfer-encoding"), visit: post("secret"), outcome: outcome{status: 200, sees: "host=web body=secret X-Ok=1 !X-Forwarded-Client-Cert !X_Forwarded_Client_Cert !X_forwarded_client_cert !X-Heddle-Check !Te"}},
		{name: "policies see what it says", settings: ", headersToUpstreamOnAllow: [x-user]", says: says(200, "", "X-User", "alice"), visit: with("X-User", "root"), more: policy("d", `{rules: [{when: [{key: "request.headers[x-user]", values: [alice]}]}]}`), outcome: outcome{status: 200, sees: "X-User=alice"}},
		{name: "headersToDownstreamOnAllow", settings: ", headersToDownstreamOnAllow: [x-seen, content-length]", says: says(200, "", "X-Seen", "yes", "X-No", "1"), outcome: outcome{status: 200, header: "X-Seen=yes !X-No"}},
		{name: "headersToDownstreamOnDeny", settings: ", headersToDownstreamOnDeny: [x-why]", says: says(401, "no", "X-Why", "because", "X-No", "1", "Www-Authenticate", "Basic"), outcome: outcome{status: 401, body: "no", header: "X-Why=because Www-Authenticate=Basic !X-No"}},

		{name: "5xx", says: says(503, "broken", "X-Why", "1"), outcome: outcome{status: 403, header: "!X-Why"}},
		{name: "statusOnError", settings: `, statusOnError: "503"`, says: says(500, ""), outcome: outcome{status: 503}},
		{name: "failOpen", settings: ", failOpen: true", says: says(500, ""), outcome: outcome{status: 200}},
		{name: "failOpen is not for denials", settings: ", failOpen: true", says: says(403, "no"), outcome: outcome{status: 403, body: "no"}},
		{name: "no answer", says: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, outcome: outcome{status: 403}},
		{name: "failOpen, no answer", settings: ", failOpen: true", says: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, outcome: outcome{status: 200}},
		{name: "time-out", settings: ", timeout: 0.05s", says: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, outcome: outcome{status: 403}},
		{name: "time-out within the answer", settings: ", timeout: 0.05s", says: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(401)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, outcome: outcome{status: 403}},
		{name: "endless body", says: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(401)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, outcome: outcome{status: 403}},
		{name: "endless body of one that allows", says: func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, outcome: outcome{status: 200}},
		{name: "huge header", settings: ", headersToUpstreamOnAllow: [x-user]", says: says(200, "", "X-User", strings.Repeat("a", 100<<10)), outcome: outcome{status: 403}},
		{name: "huge header, failOpen", settings: ", failOpen: true, headersToDownstreamOnDeny: [x-user]", says: says(403, "", "X-User", strings.Repeat("a", 1<<20)), outcome: outcome{status: 200}},
		{name: "line feed in a field", says: func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(c, "HTTP/1.1 401 No\r\nX-Why: a\rX-Evil: b\r\nContent-Length: 0\r\n\r\n")
			_ = c.Close()
		}, outcome: outcome{status: 403, header: "!X-Evil !X-Why"}},
	}
}

func (r *externalRow) documents(address string) string {
	rule := r.rule
	if rule == "" {
		rule = "{}"
	}
	return provided("envoyExtAuthzHttp", r.settings, address) + asks(rule) + r.more
}

// A keeper holds the last request that came to it.
type keeper struct {
	mu   sync.Mutex
	last string
	next func(w http.ResponseWriter, r *http.Request)
}

func (a *keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.last = seen(r, body)
	a.mu.Unlock()
	a.next(w, r)
}

func (a *keeper) lines() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// served is what the program says; its own X-Seen gives way to an authorizer's.
func served(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Seen", "no")
	_, _ = io.WriteString(w, "served")
}

// An outcome is what becomes of a request that somebody is asked about.
type outcome struct {
	status int
	body   string // of the answer, where that is not the program's
	header string // fields of the answer, "X-Why=because !X-Not"
	sees   string // lines that the program saw
}

// expect has a visit made, and holds what becomes of it against the outcome.
func (f *face) expect(t *testing.T, m *mesh.Mesh, v visit, o outcome) {
	t.Helper()
	app, r := &keeper{next: served}, policyRow{visit: v}
	r.fill()
	got := f.ask(t, f.serve(t, m, app), r.visit)
	if o.status == 200 {
		o.body = "served"
	}
	if got.status != o.status || got.body != o.body {
		t.Fatalf("answered %d %.200q, want %d %q", got.status, got.body, o.status, o.body)
	}
	header := ""
	for name, values := range got.header {
		header += name + "=" + strings.Join(values, "\n"+name+"=") + "\n"
	}
	wantLines(t, "the answer", header, o.header)
	if (o.status == 200) != (app.lines() != "") {
		t.Errorf("the program saw %.200q", app.lines())
	}
	wantLines(t, "the program", app.lines(), o.sees)
}

// TestExternalRows: envoyExtAuthzHttp against an authorizer of net/http, in every face.
func TestExternalRows(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, row := range externalRows() {
				t.Run(row.name, func(t *testing.T) {
					authorizer := &keeper{next: row.says}
					srv := httptest.NewServer(authorizer)
					t.Cleanup(srv.Close)
					var events []mesh.PolicyEvent
					var mu sync.Mutex
					m := inboundMesh(t, row.documents(srv.Listener.Addr().String()), mesh.WithPolicyLog(func(e mesh.PolicyEvent) {
						mu.Lock()
						defer mu.Unlock()
						events = append(events, e)
					}))
					f.expect(t, m, row.visit, row.outcome)
					if late := strings.Contains(row.settings, "timeout"); !late && row.unasked != (authorizer.lines() == "") { // it may be over before the question is there
						t.Errorf("the authorizer saw %q", authorizer.lines())
					}
					wantLines(t, "the authorizer", authorizer.lines(), row.asked)
					mu.Lock()
					defer mu.Unlock()
					row.told(t, events)
				})
			}
		})
	}
}

// TestExternalBodies: bodies that come in pieces, that nobody announces, and that the client sends when it is asked to.
func TestExternalBodies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, head string
		pieces     []string
		most       int
		asked      string
	}{
		{"whole", "Content-Length: 6\r\n", []string{"secret"}, 100, "secret"},
		{"in pieces", "Content-Length: 6\r\n", []string{"se", "cr", "et"}, 100, "secret"},
		{"in pieces, the beginning", "Content-Length: 6\r\n", []string{"se", "cr", "et"}, 3, "sec"},
		{"chunked", "Transfer-Encoding: chunked\r\n", []string{"2\r\nse\r\n4\r\ncret\r\n0\r\n\r\n"}, 100, "secret"},
		{"chunked in pieces", "Transfer-Encoding: chunked\r\n", []string{"2\r\nse\r\n", "4\r\nc", "ret\r\n", "0\r\n\r\n"}, 100, "secret"},
		{"chunked, the beginning", "Transfer-Encoding: chunked\r\n", []string{"2\r\nse\r\n", "4\r\nc", "ret\r\n", "0\r\n\r\n"}, 4, "secr"},
		{"as long as it may be", "Content-Length: 6\r\n", []string{"secret"}, 6, "secret"},
		{"when asked to", "Content-Length: 6\r\nExpect: 100-continue\r\n", []string{"secret"}, 100, "secret"},
		{"none", "", nil, 100, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			authorizer := &keeper{next: says(200, "")}
			srv := httptest.NewServer(authorizer)
			t.Cleanup(srv.Close)
			documents := provided("envoyExtAuthzHttp", fmt.Sprintf(", includeRequestBodyInCheck: {maxRequestBytes: %d, allowPartialMessage: true}", c.most),
				srv.Listener.Addr().String()) + asks("{}")
			for _, f := range faces {
				if f.http2 {
					continue
				}
				app := &keeper{next: served}
				conn, err := net.Dial("tcp", f.serve(t, inboundMesh(t, documents), app))
				if err != nil {
					t.Fatal(err)
				}
				answers := bufio.NewReader(conn)
				req := &http.Request{Method: http.MethodPost}
				_, _ = io.WriteString(conn, "POST /x HTTP/1.1\r\nHost: web\r\n"+c.head+"\r\n")
				if strings.Contains(c.head, "Expect") {
					if resp, err := http.ReadResponse(answers, req); err != nil || resp.StatusCode != http.StatusContinue {
						t.Fatalf("%s: %v %v", f.name, resp, err)
					}
				}
				for _, piece := range c.pieces {
					_, _ = io.WriteString(conn, piece)
				}
				resp, err := http.ReadResponse(answers, req)
				for err == nil && resp.StatusCode == http.StatusContinue { // the program's own, passed on
					resp, err = http.ReadResponse(answers, req)
				}
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("%s: %v %v", f.name, resp, err)
				}
				_ = conn.Close()
				wantLines(t, f.name+", the authorizer", authorizer.lines(), "body="+c.asked)
				wantLines(t, f.name+", the program", app.lines(), "body="+map[bool]string{true: "secret"}[c.pieces != nil])
			}
		})
	}
}

// told holds what operators are told against the row: the rule of the policy, Envoy's flag and details.
func (r *externalRow) told(t *testing.T, events []mesh.PolicyEvent) {
	t.Helper()
	if r.status == 200 {
		for _, e := range events {
			if e.Status != 0 || e.Details != "ext_authz_failure_mode_allowed" || e.Err == nil {
				t.Errorf("told of %+v", e)
			}
		}
		return
	}
	if len(events) != 1 || events[0].Status != r.status {
		t.Fatalf("told %+v", events)
	}
	if e := events[0]; strings.HasPrefix(e.Details, "ext_authz_") && (e.Flag != "UAEX" || e.Decision.Rule != "ns[default]-policy[ask]-rule[0]" ||
		(e.Details == "ext_authz_error") != (e.Err != nil)) {
		t.Errorf("told %+v", e)
	}
}

// authorizations is a server of Envoy's ext_authz.
type authorizations struct {
	auth.UnimplementedAuthorizationServer
	mu    sync.Mutex
	last  *auth.CheckRequest
	trail []string
	says  func(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error)
}

// Check implements the service.
func (a *authorizations) Check(ctx context.Context, q *auth.CheckRequest) (*auth.CheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	a.mu.Lock()
	a.last, a.trail = q, md.Get("x-heddle-check")
	a.mu.Unlock()
	return a.says(ctx, q)
}

func (a *authorizations) serve(t testing.TB) (address string) {
	t.Helper()
	l := listenLocal(t)
	srv := grpc.NewServer()
	auth.RegisterAuthorizationServer(srv, a)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return l.Addr().String()
}

func option(name, value string) *core.HeaderValueOption {
	return &core.HeaderValueOption{Header: &core.HeaderValue{Key: name, Value: value}}
}

func acting(o *core.HeaderValueOption, a core.HeaderValueOption_HeaderAppendAction) *core.HeaderValueOption {
	o.AppendAction = a
	return o
}

func appended(o *core.HeaderValueOption) *core.HeaderValueOption {
	o.Append = wrapperspb.Bool(true) //nolint:staticcheck // what older authorizers say
	return o
}

func code(c codes.Code) *rpc.Status { return &rpc.Status{Code: int32(c)} }

func allows(ok *auth.OkHttpResponse) *auth.CheckResponse {
	return &auth.CheckResponse{Status: code(codes.OK), HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: ok}}
}

func denies(d *auth.DeniedHttpResponse) *auth.CheckResponse {
	return &auth.CheckResponse{Status: code(codes.PermissionDenied), HttpResponse: &auth.CheckResponse_DeniedResponse{DeniedResponse: d}}
}

type checkRow struct {
	name     string
	settings string
	visit    visit
	says     *auth.CheckResponse
	err      error
	slow     bool
	outcome
	check func(t *testing.T, h *auth.AttributeContext_HttpRequest)
}

func checkRows() []checkRow {
	with := func(header ...string) visit {
		h := make(http.Header)
		for i := 0; i < len(header); i += 2 {
			h.Add(header[i], header[i+1])
		}
		return visit{header: h}
	}
	body := func(settings string) string { return ", includeRequestBodyInCheck: {" + settings + "}" }
	return []checkRow{
		{name: "allowed", says: &auth.CheckResponse{Status: code(codes.OK)}, outcome: outcome{status: 200}},
		{name: "allowed with nothing", says: allows(nil), outcome: outcome{status: 200}},
		{name: "an empty answer is OK", says: &auth.CheckResponse{}, outcome: outcome{status: 200}}, // google.rpc.Code 0
		{name: "denied", says: &auth.CheckResponse{Status: code(codes.PermissionDenied)}, outcome: outcome{status: 403}},
		{name: "denied by another code", says: &auth.CheckResponse{Status: code(codes.Internal)}, outcome: outcome{status: 403}},
		{name: "denied with more", says: denies(&auth.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 429}, Body: "later",
			Headers: []*core.HeaderValueOption{option("x-why", "because"), option("content-type", "text/html")}}), outcome: outcome{status: 429, body: "later", header: "X-Why=because Content-Type=text/html"}},
		{name: "denied, and it says OK", says: &auth.CheckResponse{Status: code(codes.PermissionDenied), HttpResponse: allows(&auth.OkHttpResponse{}).GetHttpResponse()}, outcome: outcome{status: 403}},
		{name: "an error", err: grpcstatus.Error(codes.Unknown, "x"), outcome: outcome{status: 403}},
		{name: "statusOnError", settings: `, statusOnError: "503"`, err: grpcstatus.Error(codes.Unknown, "x"), outcome: outcome{status: 503}},
		{name: "failOpen", settings: `, failOpen: true`, err: grpcstatus.Error(codes.Unknown, "x"), outcome: outcome{status: 200}},
		{name: "failOpen is not for denials", settings: `, failOpen: true`, says: &auth.CheckResponse{Status: code(codes.Unavailable)}, outcome: outcome{status: 403}},
		{name: "time-out", settings: `, timeout: 0.05s`, slow: true, outcome: outcome{status: 403}},
		{name: "failOpen, time-out", settings: `, failOpen: true, timeout: 0.05s`, slow: true, outcome: outcome{status: 200}},
		{name: "error_response", says: &auth.CheckResponse{Status: code(codes.Internal), HttpResponse: &auth.CheckResponse_ErrorResponse{
			ErrorResponse: &auth.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 502}, Body: "broken"}}}, outcome: outcome{status: 502, body: "broken"}},
		{name: "error_response without a status", settings: `, statusOnError: "503"`, says: &auth.CheckResponse{Status: code(codes.Internal),
			HttpResponse: &auth.CheckResponse_ErrorResponse{ErrorResponse: &auth.DeniedHttpResponse{}}}, outcome: outcome{status: 503}},
		{name: "error_response, failOpen", settings: `, failOpen: true`, says: &auth.CheckResponse{Status: code(codes.Internal),
			HttpResponse: &auth.CheckResponse_ErrorResponse{ErrorResponse: &auth.DeniedHttpResponse{}}}, outcome: outcome{status: 200}},

		{name: "headers", visit: with("X-A", "1", "X-B", "1", "X-C", "1", "X-E", "1"), says: allows(&auth.OkHttpResponse{Headers: []*core.HeaderValueOption{
			option("x-a", "2"), appended(option("x-b", "2")), acting(option("x-c", "2"), core.HeaderValueOption_ADD_IF_ABSENT),
			acting(option("x-d", "2"), core.HeaderValueOption_ADD_IF_ABSENT), acting(option("x-e", "2"), core.HeaderValueOption_OVERWRITE_IF_EXISTS),
			acting(option("x-f", "2"), core.HeaderValueOption_OVERWRITE_IF_EXISTS), acting(option("x-g", "2"), core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)}}), outcome: outcome{status: 200, sees: "X-A=2 X-B=1 X-B=2 X-C=1 X-D=2 X-E=2 !X-F X-G=2"}},
		{name: "headers_to_remove", visit: with("X-A", "1", "Authorization", "x"), says: allows(&auth.OkHttpResponse{HeadersToRemove: []string{"x-a", "Authorization", "host", ":path"}}), outcome: outcome{status: 200, sees: "!X-A !Authorization host=web target=/reviews/1"}},
		{name: "query parameters", visit: visit{target: "/x?a=1&b=2&a=3&c=%2f&%61=4"}, says: allows(&auth.OkHttpResponse{
			QueryParametersToSet: []*core.QueryParameter{{Key: "a", Value: "x y"}, {Key: "d", Value: "&"}}, QueryParametersToRemove: []string{"b"}}), outcome: outcome{status: 200, sees: "target=/x?c=%2f&a=x+y&d=%26"}},
		{name: "the last query parameter", visit: visit{target: "/x?a=1"}, says: allows(&auth.OkHttpResponse{QueryParametersToRemove: []string{"a"}}), outcome: outcome{status: 200, sees: "target=/x"}},
		{name: "response_headers_to_add", says: allows(&auth.OkHttpResponse{ResponseHeadersToAdd: []*core.HeaderValueOption{option("x-seen", "yes"), option("content-length", "1")}}), outcome: outcome{status: 200, header: "X-Seen=yes"}},
		{name: "protected", says: allows(&auth.OkHttpResponse{Headers: []*core.HeaderValueOption{option(":path", "/admin"), option(":authority", "x"), option("Host", "x"),
			option("content-length", "0"), option("transfer-encoding", "chunked"), option("Connection", "x-a"), option("x-forwarded-client-cert", "x"), option("x-ok", "1")}}), visit: with("X-A", "1"), outcome: outcome{status: 200, sees: "target=/reviews/1 host=web X-A=1 X-Ok=1 !X-Forwarded-Client-Cert"}},
		{name: "CRLF in a value", settings: ", failOpen: true", says: allows(&auth.OkHttpResponse{Headers: []*core.HeaderValueOption{option("x-a", "1\r\nx-admin: 1")}}), outcome: outcome{status: 403}},
		{name: "CRLF in a name", says: allows(&auth.OkHttpResponse{Headers: []*core.HeaderValueOption{option("x-a: 1\r\nx-b", "1")}}), outcome: outcome{status: 403}},
		{name: "CRLF for the caller", settings: ", failOpen: true", says: denies(&auth.DeniedHttpResponse{Headers: []*core.HeaderValueOption{option("x-a", "1\r\n\r\nevil")}}), outcome: outcome{status: 403}},
		{name: "no status", says: denies(&auth.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 99}}), outcome: outcome{status: 403}},
		{name: "an endless header", says: allows(&auth.OkHttpResponse{Headers: []*core.HeaderValueOption{option("x-a", strings.Repeat("a", 70<<10))}}), outcome: outcome{status: 403}},
		{name: "an answer too large", says: denies(&auth.DeniedHttpResponse{Body: strings.Repeat("a", 3<<20)}), outcome: outcome{status: 403}},

		{name: "attributes", visit: visit{method: "PUT", target: "/a//b?c=d", host: "Web:80", header: http.Header{"X-A": {"1", "2"}, "X-Request-Id": {"id-1"}}}, says: allows(nil), check: func(t *testing.T, h *auth.AttributeContext_HttpRequest) {
			hs := h.GetHeaders()
			if h.GetMethod() != "PUT" || h.GetPath() != "/a//b?c=d" || h.GetHost() != "Web:80" && h.GetHost() != "web:80" || h.GetScheme() != "http" || h.GetId() != "id-1" ||
				hs["x-a"] != "1,2" || hs[":method"] != "PUT" || hs[":path"] != "/a//b?c=d" || hs[":scheme"] != "http" || hs["x-envoy-auth-partial-body"] != "" ||
				!strings.HasPrefix(h.GetProtocol(), "HTTP/") || h.GetBody() != "" || h.GetRawBody() != nil {
				t.Errorf("asked about %v", h)
			}
		}, outcome: outcome{status: 200}},
		{name: "a body as text", settings: body("maxRequestBytes: 100"), visit: visit{method: "POST", body: "a\xffb"}, says: allows(nil), check: func(t *testing.T, h *auth.AttributeContext_HttpRequest) {
			if h.GetBody() != "a!b" || h.GetRawBody() != nil || h.GetSize() != 3 || h.GetHeaders()["x-envoy-auth-partial-body"] != "false" {
				t.Errorf("asked about %v", h)
			}
		}, outcome: outcome{status: 200, sees: "body=a\xffb"}},
		{name: "packAsBytes", settings: body("maxRequestBytes: 2, allowPartialMessage: true, packAsBytes: true"), visit: visit{method: "POST", body: "a\xffb"}, says: allows(nil), check: func(t *testing.T, h *auth.AttributeContext_HttpRequest) {
			if h.GetBody() != "" || string(h.GetRawBody()) != "a\xff" || h.GetHeaders()["x-envoy-auth-partial-body"] != "true" {
				t.Errorf("asked about %v", h)
			}
		}, outcome: outcome{status: 200}},
	}
}

func (r *checkRow) authorizer() *authorizations {
	return &authorizations{says: func(ctx context.Context, _ *auth.CheckRequest) (*auth.CheckResponse, error) {
		if r.slow {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return r.says, r.err
	}}
}

// TestExternalSettings: envoyExtAuthzGrpc against a server of go-control-plane's protos, in every face: service, port, timeout,
// failOpen, statusOnError and includeRequestBodyInCheck.
func TestExternalSettings(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, row := range checkRows() {
				t.Run(row.name, func(t *testing.T) {
					authorizer := row.authorizer()
					m := inboundMesh(t, provided("envoyExtAuthzGrpc", row.settings, authorizer.serve(t))+asks("{}"), mesh.WithGRPCAuthorizers(extauthz.Dial))
					f.expect(t, m, row.visit, row.outcome)
					authorizer.mu.Lock()
					defer authorizer.mu.Unlock()
					if row.check != nil {
						row.check(t, authorizer.last.GetAttributes().GetRequest().GetHttp())
						if a := authorizer.last.GetAttributes(); a.GetSource().GetAddress().GetSocketAddress().GetAddress() != "127.0.0.1" ||
							a.GetSource().GetAddress().GetSocketAddress().GetPortValue() == 0 || a.GetDestination().GetAddress() == nil || a.GetRequest().GetTime() == nil {
							t.Errorf("asked about %v", a)
						}
						if len(authorizer.trail) != 1 {
							t.Errorf("trail %q", authorizer.trail)
						}
					}
				})
			}
		})
	}
}

// TestExternalRPCs: the same of RPCs of a gRPC server.
func TestExternalRPCs(t *testing.T) {
	t.Parallel()
	want := map[int]codes.Code{200: codes.OK, 401: codes.Unauthenticated, 403: codes.PermissionDenied, 429: codes.Unavailable, 502: codes.Unavailable, 503: codes.Unavailable}
	for _, row := range checkRows() {
		if row.check != nil || row.visit.target != "" {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := newGRPCFace(t, inboundMesh(t, provided("envoyExtAuthzGrpc", row.settings, row.authorizer().serve(t))+asks("{}"), mesh.WithGRPCAuthorizers(extauthz.Dial)))
			md := metadata.MD{}
			for name, values := range row.visit.header {
				md[strings.ToLower(name)] = values
			}
			code, message, ran := f.call(t.Context(), "/pkg.Service/Method", "web", md)
			if code != want[row.status] || ran != (row.status == 200) || message != row.body {
				t.Errorf("%v %q, ran %v; want %v %q", code, message, ran, want[row.status], row.body)
			}
		})
	}
}

// TestAuthorizerOfTheProgram: a Go Authorizer in every face, by its name alone, and in the place of a document's provider.
func TestAuthorizerOfTheProgram(t *testing.T) {
	t.Parallel()
	only := external.AuthorizerFunc(func(_ context.Context, c *external.Check) (external.Answer, error) {
		switch c.Header.Get("X-Pass") {
		case "open sesame":
			return external.Answer{Allowed: true, Request: []external.Edit{{Name: "X-User", Value: c.Policy}}}, nil
		case "":
			return external.Answer{}, nil
		}
		return external.Answer{Allowed: true}, fmt.Errorf("no idea")
	})
	for _, documents := range []string{asks("{}"), provided("envoyExtAuthzHttp", `, statusOnError: "503"`, "127.0.0.1:1") + asks("{}")} {
		broken := 403
		if strings.Contains(documents, "503") {
			broken = 503
		}
		for _, f := range faces {
			app := &keeper{next: served}
			addr := f.serve(t, inboundMesh(t, documents, mesh.WithAuthorizer("opa", only)), app)
			for pass, status := range map[string]int{"open sesame": 200, "": 403, "x": broken} {
				v := visit{method: "GET", target: "/", host: "web", header: http.Header{}}
				if pass != "" {
					v.header.Set("X-Pass", pass)
				}
				if got := f.ask(t, addr, v); got.status != status {
					t.Errorf("%s, %q: answered %d, want %d", f.name, pass, got.status, status)
				}
			}
			wantLines(t, f.name, app.lines(), "X-User=ns[default]-policy[ask]-rule[0]")
		}
	}
}

// TestUnknownProvider: whom nobody knows nobody can ask, and what the policy selects is denied; nothing else is
// (attacks.md A-056).
func TestUnknownProvider(t *testing.T) {
	t.Parallel()
	rule := "{to: [{operation: {paths: [/admin]}}]}"
	for name, documents := range map[string]string{
		"none":        asks(rule),
		"other":       strings.Replace(provided("envoyExtAuthzHttp", "", "127.0.0.1:1"), "name: opa", "name: other", 1) + asks(rule),
		"no service":  strings.Replace(provided("envoyExtAuthzHttp", ", failOpen: true", "127.0.0.1:1"), "hosts: [opa.example]", "hosts: [other.example]", 1) + asks(rule),
		"no port":     strings.Replace(provided("envoyExtAuthzHttp", ", failOpen: true", "127.0.0.1:1"), "port: 9191", "port: 9192", 1) + asks(rule),
		"gRPC":        provided("envoyExtAuthzGrpc", ", failOpen: true", "127.0.0.1:1") + asks(rule), // without WithGRPCAuthorizers
		"other kind":  "---\napiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec: {extensionProviders: [{name: opa, prometheus: {}}]}\n" + asks(rule),
		"nothing set": asks(rule) + policy("p", "{rules: [{}]}"),
	} {
		t.Run(name, func(t *testing.T) {
			m := inboundMesh(t, documents)
			at := slices.IndexFunc(m.Status().Findings, func(f mesh.Finding) bool {
				return f.Code == "IST0101" && f.Path == "spec.provider.name" && f.Line > 0 && f.Column > 0 && strings.Contains(f.Message, "denied")
			})
			if at < 0 {
				t.Errorf("no finding: %v", m.Status().Findings)
			}
			for _, f := range faces {
				addr := f.serve(t, m, &keeper{next: served})
				for target, status := range map[string]int{"/admin": 403, "/x": 200} {
					if got := f.ask(t, addr, visit{method: "GET", target: target, host: "web"}); got.status != status {
						t.Errorf("%s: %s is answered %d", f.name, target, got.status)
					}
				}
			}
		})
	}
	two := asks("{}") + strings.NewReplacer("name: ask", "name: two", "name: opa", "name: opal").Replace(asks("{}"))
	if _, err := mesh.New(t.Context(), mesh.WithConfig([]byte(two))); err == nil || !strings.Contains(err.Error(), "only one can be asked") {
		t.Errorf("two providers: %v", err)
	}
}

// TestAuthorizerAsksItself: the authorizer is the workload itself, whose policy selects the question too: it is refused and
// not asked about again, through as many meshes as there are.
func TestAuthorizerAsksItself(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		if f.http2 {
			continue // the question is of HTTP/1.1
		}
		l := listenLocal(t)
		address := l.Addr().String()
		_ = l.Close()
		documents := provided("envoyExtAuthzHttp", "", address) + asks("{}")
		m := inboundMesh(t, documents)
		addr := f.serve(t, m, &keeper{next: served})
		_, port, _ := net.SplitHostPort(address)
		_, own, _ := net.SplitHostPort(addr)
		if err := m.Apply(t.Context(), []byte(strings.Replace(documents, "p: "+port, "p: "+own, 1))); err != nil {
			t.Fatal(err)
		}
		if got := f.ask(t, addr, visit{method: "GET", target: "/", host: "web"}); got.status != 403 {
			t.Errorf("%s: answered %d", f.name, got.status)
		}
		// Once for the request, and once for the question that came back.
		if p := m.Status().Policies; p.ExternalFailed != 1 || p.ExternalDenied != 1 {
			t.Errorf("%s: counted %+v", f.name, p)
		}
	}
}
