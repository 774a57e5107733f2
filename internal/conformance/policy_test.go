package conformance

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddlemesh/mesh"
)

// policy writes an AuthorizationPolicy of namespace default.
func policy(name, spec string) string {
	return "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

// A policyRow is documents and a request, and whether the program is to see it.
type policyRow struct {
	name, config string
	visit        visit
	denied       bool
}

func (r *policyRow) fill() {
	v := &r.visit
	if v.method == "" {
		v.method = "GET"
	}
	if v.target == "" {
		v.target = "/reviews/1"
	}
	if v.host == "" {
		v.host = "web"
	}
}

// policyRows are run by every face. The rule's fields and conditions are compared one by one in identity/authz; these
// show that each of them gets there from the document, and that the request does from the wire.
func policyRows() []policyRow {
	allow := func(rule string) string { return policy("p", "{action: ALLOW, rules: ["+rule+"]}") }
	deny := func(rule string) string { return policy("p", "{action: DENY, rules: ["+rule+"]}") }
	from := func(source string) string { return "{from: [{source: {" + source + "}}]}" }
	to := func(operation string) string { return "{to: [{operation: {" + operation + "}}]}" }
	when := func(key, rest string) string { return `{when: [{key: "` + key + `", ` + rest + "}]}" }
	role := func(values ...string) visit { return visit{header: http.Header{"X-Role": values}} }
	return []policyRow{
		{"no policy", "", visit{}, false},
		{"ALLOW without rules", policy("p", "{}"), visit{}, true},
		{"ALLOW all", policy("p", "{rules: [{}]}"), visit{}, false},
		{"DENY all", deny("{}"), visit{}, true},
		{"DENY before ALLOW", policy("a", "{rules: [{}]}") + policy("b", "{action: DENY, rules: [{}]}"), visit{}, true},
		{"other namespace", strings.Replace(policy("p", "{}"), "{name: p}", "{name: p, namespace: shop}", 1), visit{}, false},
		{"root namespace", strings.Replace(policy("p", "{}"), "{name: p}", "{name: p, namespace: istio-system}", 1), visit{}, true},
		{"selected", policy("p", "{selector: {matchLabels: {app: web}}}"), visit{}, true},
		{"not selected", policy("p", "{selector: {matchLabels: {app: db}}}"), visit{}, false},
		{"selected from the root namespace", strings.Replace(policy("p", "{selector: {matchLabels: {app: web}}}"), "{name: p}", "{name: p, namespace: istio-system}", 1), visit{}, true},
		{"AUDIT", policy("p", "{action: AUDIT, rules: [{}]}"), visit{}, false},
		{"dry run", strings.Replace(policy("p", "{action: DENY, rules: [{}]}"), "{name: p}", `{name: p, annotations: {istio.io/dry-run: "true"}}`, 1), visit{}, false},
		{"no dry run", strings.Replace(policy("p", "{action: DENY, rules: [{}]}"), "{name: p}", `{name: p, annotations: {istio.io/dry-run: "false"}}`, 1), visit{}, true},

		{"paths", deny(to("paths: [/reviews/*]")), visit{}, true},
		{"paths, other", deny(to("paths: [/reviews]")), visit{}, false},
		{"paths, query", deny(to("paths: [/reviews/1]")), visit{target: "/reviews/1?a=b"}, true},
		{"paths, ALLOW", allow(to("paths: [/reviews/*]")), visit{}, false},
		{"paths, ALLOW other", allow(to("paths: [/x]")), visit{}, true},
		{"paths, template", deny(to("paths: ['/reviews/{*}']")), visit{}, true},
		{"notPaths", deny(to("notPaths: [/public/*]")), visit{}, true},
		{"notPaths, that path", deny(to("notPaths: [/public/*]")), visit{target: "/public/a"}, false},
		{"doubled slash", deny(to("paths: [/admin]")), visit{target: "//admin"}, true},
		{"dots", deny(to("paths: [/admin]")), visit{target: "/x/../admin"}, true},
		{"encoded dots", deny(to("paths: [/admin]")), visit{target: "/x/%2e%2e/admin"}, true},
		{"encoded slash", deny(to("paths: [/x/admin]")), visit{target: "/x%2fadmin"}, true},
		{"encoded backslash", deny(to("paths: [/x/admin]")), visit{target: "/x%5cadmin"}, true},
		{"encoded twice", deny(to("paths: [/x/admin]")), visit{target: "/x%252fadmin"}, true},
		{"encoded letter", deny(to("paths: [/admin]")), visit{target: "/%61dmin"}, true},
		{"dots out of what is allowed", allow(to("paths: [/public/*]")), visit{target: "/public/../admin"}, true},
		{"encoded dots out of what is allowed", allow(to("paths: [/public/*]")), visit{target: "/public/..%2fadmin"}, true},

		{"hosts", deny(to("hosts: [web]")), visit{}, true},
		{"hosts, case and port", deny(to("hosts: [web]")), visit{host: "WEB:80"}, true},
		{"hosts, dot", deny(to("hosts: [web]")), visit{host: "web."}, true},
		{"hosts, other port", deny(to("hosts: [web]")), visit{host: "web:8080"}, false},
		{"hosts, any port", deny(to("hosts: ['web:*']")), visit{host: "WEB:8080"}, true},
		{"notHosts", allow(to("notHosts: [web]")), visit{}, true},
		{"methods", deny(to("methods: [GET]")), visit{}, true},
		{"methods, other", deny(to("methods: [POST]")), visit{}, false},
		{"notMethods", allow(to("notMethods: [GET]")), visit{method: "DELETE"}, false},
		{"ports, another", allow(to("ports: ['1']")), visit{}, true},
		{"notPorts", allow(to("notPorts: ['1']")), visit{}, false},
		{"two operations", deny("{to: [{operation: {paths: [/x]}}, {operation: {methods: [GET]}}]}"), visit{}, true},
		{"both fields of an operation", deny(to("paths: [/reviews/*], methods: [POST]")), visit{}, false},

		{"ipBlocks", deny(from("ipBlocks: [127.0.0.0/8]")), visit{}, true},
		{"notIpBlocks", allow(from("notIpBlocks: [127.0.0.1]")), visit{}, true},
		{"remoteIpBlocks", deny(from("remoteIpBlocks: [203.0.113.0/24]")), visit{header: http.Header{"X-Forwarded-For": {"203.0.113.9"}}}, true},
		{"remoteIpBlocks are not won by a header", allow(from("remoteIpBlocks: [203.0.113.0/24]")), visit{header: http.Header{"X-Forwarded-For": {"203.0.113.9"}}}, true},
		{"notRemoteIpBlocks", allow(from("notRemoteIpBlocks: [203.0.113.0/24]")), visit{}, false},
		{"principals, nobody", allow(from("principals: [cluster.local/ns/a/sa/b]")), visit{}, true},
		{"notPrincipals, nobody", allow(from("notPrincipals: [cluster.local/ns/a/sa/b]")), visit{}, true},
		{"principals, DENY nobody", deny(from("principals: [cluster.local/ns/a/sa/b]")), visit{}, true},
		{"namespaces, nobody", deny(from("namespaces: [foo]")), visit{}, true},
		{"notNamespaces, nobody", allow(from("notNamespaces: [foo]")), visit{}, true},
		{"serviceAccounts, nobody", allow(from("serviceAccounts: [web]")), visit{}, true},
		{"notServiceAccounts, nobody", allow(from("notServiceAccounts: [web]")), visit{}, true},
		{"trustDomains, nobody", allow(from("trustDomains: [cluster.local]")), visit{}, true},
		{"notTrustDomains, nobody", deny(from("notTrustDomains: [cluster.local]")), visit{}, true},
		{"requestPrincipals, no token", allow(from("requestPrincipals: ['*']")), visit{}, true},
		{"notRequestPrincipals, no token", deny(from("notRequestPrincipals: ['*']")), visit{}, true},
		{"notRequestPrincipals, ALLOW no token", allow(from("notRequestPrincipals: ['*']")), visit{}, false},

		{"header", deny(when("request.headers[x-role]", "values: [admin]")), role("admin"), true},
		{"header, missing", deny(when("request.headers[x-role]", "values: [admin]")), visit{}, false},
		{"header, second of two", deny(when("request.headers[X-Role]", "values: [admin]")), role("user", "admin"), true},
		{"header, in a list", deny(when("request.headers[x-role]", "values: [admin]")), role("user,admin"), true},
		{"header, ALLOW both", allow(when("request.headers[x-role]", "values: [admin]")), role("admin", "user"), true},
		{"header, notValues", allow(when("request.headers[x-role]", "notValues: [admin]")), role("user", "admin"), true},
		{"header, notValues missing", allow(when("request.headers[x-role]", "notValues: [admin]")), visit{}, true},
		{"header, notValues not text", allow(when("request.headers[x-role]", "notValues: [admin]")), role("adm\xffin"), true},
		{"source.ip", deny(when("source.ip", "values: [127.0.0.1]")), visit{}, true},
		{"remote.ip", deny(when("remote.ip", "values: [127.0.0.1]")), visit{}, true},
		{"source.namespace", allow(when("source.namespace", "values: [a]")), visit{}, true},
		{"source.principal", allow(when("source.principal", "values: ['*']")), visit{}, true},
		{"source.serviceAccount", allow(when("source.serviceAccount", "values: [a]")), visit{}, true},
		{"source.trustDomain", allow(when("source.trustDomain", "values: [a]")), visit{}, true},
		{"request.auth.principal", allow(when("request.auth.principal", "values: ['*']")), visit{}, true},
		{"request.auth.audiences", allow(when("request.auth.audiences", "values: ['*']")), visit{}, true},
		{"request.auth.presenter", allow(when("request.auth.presenter", "values: ['*']")), visit{}, true},
		{"request.auth.claims", allow(when("request.auth.claims[a][b]", "values: ['*']")), visit{}, true},
		{"destination.ip", deny(when("destination.ip", "values: [127.0.0.1]")), visit{}, true},
		{"destination.port", allow(when("destination.port", "values: ['1']")), visit{}, true},
		{"connection.sni", allow(when("connection.sni", "values: ['*']")), visit{}, true},
	}
}

// A recorder is a program that notes what it was asked.
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (a *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.seen = append(a.seen, r.RequestURI+" "+r.URL.EscapedPath())
	a.mu.Unlock()
	_, _ = w.Write([]byte("served"))
}

func (a *recorder) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

// TestPolicyRows: what a policy denies does not reach the program, and the caller is told what Istio tells and no more.
func TestPolicyRows(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, row := range policyRows() {
				t.Run(row.name, func(t *testing.T) {
					row.fill()
					app := new(recorder)
					var events []mesh.PolicyEvent
					var mu sync.Mutex
					m := inboundMesh(t, row.config, mesh.WithPolicyLog(func(ev mesh.PolicyEvent) {
						mu.Lock()
						defer mu.Unlock()
						events = append(events, ev)
					}))
					got, seen := f.ask(t, f.serve(t, m, app), row.visit), app.take()
					if !row.denied {
						if got.status != 200 || got.body != "served" || len(seen) != 1 {
							t.Errorf("answered %d %q, program asked %q", got.status, got.body, seen)
						}
						return
					}
					if got.status != 403 || got.body != "RBAC: access denied" || len(seen) != 0 {
						t.Errorf("answered %d %q, program asked %q", got.status, got.body, seen)
					}
					mu.Lock()
					defer mu.Unlock()
					if len(events) != 1 || !strings.HasPrefix(events[0].Details, "rbac_access_denied_matched_policy[") || m.Status().Policies.Denied != 1 {
						t.Errorf("told %+v, counted %+v", events, m.Status().Policies)
					}
				})
			}
		})
	}
}

// TestPolicyRowsOfRPCs runs the same rows with RPCs, whose method is POST and whose path is theirs.
func TestPolicyRowsOfRPCs(t *testing.T) {
	t.Parallel()
	for _, row := range policyRows() {
		row.fill()
		if row.visit.target != "/reviews/1" || strings.Contains(row.config, "ethods: [") || strings.HasSuffix(row.name, "not text") {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			config := strings.NewReplacer("/reviews/", "/pkg.Service/", "/public/", "/pkg.Other/").Replace(row.config)
			f := newGRPCFace(t, inboundMesh(t, config))
			md := metadata.MD{}
			for name, values := range row.visit.header {
				md[strings.ToLower(name)] = values
			}
			code, message, ran := f.call(t.Context(), "/pkg.Service/Method", row.visit.host, md)
			switch {
			case !row.denied && (code != codes.OK || !ran):
				t.Errorf("%v %q, ran %v", code, message, ran)
			case row.denied && (code != codes.PermissionDenied || message != "RBAC: access denied" || ran):
				t.Errorf("%v %q, ran %v", code, message, ran)
			}
		})
	}
}

// TestMethodsOfRPCs: no spelling of a method's path gets past a rule that denies it (attacks.md B-068).
func TestMethodsOfRPCs(t *testing.T) {
	t.Parallel()
	config := policy("deny", "{action: DENY, rules: [{to: [{operation: {paths: [/pkg.Service/Method]}}]}]}") + policy("allow", "{rules: [{}]}")
	paths := []string{"pkg.Service/Method", "//pkg.Service/Method", "/pkg.Service//Method", "/pkg.Service/Method/", "/PKG.Service/method",
		"/pkg.Service/%4dethod", "/pkg.Service/Method?x", "/pkg.Service/Method#x", "/pkg.Service/../pkg.Service/Method", "/pkg.Service/Method"}
	f := newGRPCFace(t, inboundMesh(t, config))
	for _, path := range paths {
		code, message, ran := f.call(t.Context(), path, "web", nil)
		if ran || code == codes.OK {
			t.Errorf("%s: %v %q, ran %v", path, code, message, ran)
		}
	}
	for _, face := range faces {
		if !face.http2 {
			continue
		}
		app := new(recorder)
		addr := face.serve(t, inboundMesh(t, config), app)
		for _, path := range paths {
			if !strings.HasPrefix(path, "/") {
				continue // net/http's own server refuses it, and its client does not send it
			}
			got := face.ask(t, addr, visit{method: "POST", target: path, host: "web", header: http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}})
			for _, seen := range app.take() {
				if strings.Contains(seen, "/pkg.Service/Method") && !strings.HasSuffix(seen, "/") {
					t.Errorf("%s, %s: the program is asked %s", face.name, path, seen)
				}
			}
			if path == "/pkg.Service/Method" && (got.status != 200 || got.header.Get("Grpc-Status") != "7" || got.header.Get("Grpc-Message") != "RBAC: access denied") {
				t.Errorf("%s: %d %v", face.name, got.status, got.header)
			}
		}
	}
}

// TestPolicyChange: a policy that arrives holds for connections and streams that are open (attacks.md E-003).
func TestPolicyChange(t *testing.T) {
	t.Parallel()
	deny := []byte(policy("p", "{action: DENY, rules: [{}]}"))
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			m := inboundMesh(t, "")
			addr := f.serve(t, m, new(recorder))
			client := &http.Client{Transport: &http.Transport{}}
			if f.http2 {
				client.Transport = http2Client()
			}
			defer client.CloseIdleConnections()
			for _, want := range []int{200, 403} {
				resp, err := client.Get("http://" + addr + "/")
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != want {
					t.Errorf("status %d, want %d", resp.StatusCode, want)
				}
				if err := m.Apply(t.Context(), deny); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		m := inboundMesh(t, "")
		f := newGRPCFace(t, m)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		s, err := f.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/pkg.Service/Stream")
		if err != nil {
			t.Fatal(err)
		}
		trip := func() error {
			if err := s.SendMsg(new(emptypb.Empty)); err != nil && !errors.Is(err, io.EOF) { // the status is RecvMsg's to give
				return err
			}
			return s.RecvMsg(new(emptypb.Empty))
		}
		if err := trip(); err != nil {
			t.Fatal(err)
		}
		if err := m.Apply(t.Context(), deny); err != nil {
			t.Fatal(err)
		}
		if err := trip(); grpcstatus.Code(err) != codes.PermissionDenied {
			t.Errorf("a stream goes on: %v", err)
		}
	})
}

// TestPolicyMalformed: what has two readings is answered with 400 where policies are to decide (attacks.md B-032, B-033, B-034).
func TestPolicyMalformed(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		if f.http2 {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			app := new(recorder)
			addr := f.serve(t, inboundMesh(t, policy("p", "{rules: [{}]}")), app)
			for _, v := range []visit{
				{method: "GET", target: "/%00", host: "web"}, {method: "GET", target: "/a%zz", host: "web"}, {method: "get", target: "/", host: "web"},
				{method: "GET", target: "/", host: "a,b"}, {method: "GET", target: "/", host: "u@h"}, {method: "GET", target: "/", host: "web:99999"},
				{method: "GET", target: "/", host: "[::1%25lo]"}, {method: "GET", target: "x", host: "web"}, {method: "GET", target: "/", host: "-a"},
				{method: "GET", target: "/", host: strings.Repeat("a.", 150) + "a"}, {method: "GET", target: "/", host: "a..b"},
				{method: "GET", target: "/", host: "s\u0435cret.example"}, {method: "GET", target: "http:///x", host: "web"}, {method: "GET", target: "http:x", host: "web"},
			} {
				if got := f.ask(t, addr, v); got.status != 400 && got.status != 0 || len(app.take()) > 0 {
					t.Errorf("%s %s, host %s: %d", v.method, v.target, v.host, got.status)
				}
			}
		})
	}
}

// TestPolicySpelling: the program sees the path that was decided on.
func TestPolicySpelling(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			app := new(recorder)
			addr := f.serve(t, inboundMesh(t, policy("p", "{rules: [{}]}")), app)
			for target, want := range map[string]string{"/a/../b?q=%2e": "/b?q=%2e /b", "/%61/%2fb": "/a/%2fb /a/%2fb", "/x": "/x /x", "/a//b": "/a//b /a//b"} {
				f.ask(t, addr, visit{method: "GET", target: target, host: "web"})
				if seen := app.take(); len(seen) != 1 || seen[0] != want {
					t.Errorf("%s arrives as %q, want %q", target, seen, want)
				}
			}
		})
	}
}

// TestPolicyPort: the port of a policy is what the program says it is. Where nobody knows, a DENY denies.
func TestPolicyPort(t *testing.T) {
	t.Parallel()
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(policy("p", `{action: DENY, rules: [{to: [{operation: {ports: ["9080"]}}]}]}`))),
		mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for port, want := range map[uint16]int{0: http.StatusForbidden, 80: http.StatusNoContent, 9080: http.StatusForbidden} {
		h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), mesh.WithInboundPort(port))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://web/", nil))
		if w.Code != want {
			t.Errorf("port %d: got %d, want %d", port, w.Code, want)
		}
	}
}
