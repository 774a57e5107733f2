package conformance

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/call"
)

func meshDocument(spec string) string {
	return "---\napiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec: " + spec + "\n"
}

// TestPathLevels: the program is given the path as MeshConfig.pathNormalization says, with policies and without, and no level
// opens a way round a DENY, or into what ALLOW does not mean (attacks.md B-030; istio.io, MeshConfig.ProxyPathNormalization).
func TestPathLevels(t *testing.T) {
	t.Parallel()
	levels := map[string]call.PathNormalization{"NONE": call.PathNone, "BASE": call.PathBase, "MERGE_SLASHES": call.PathMerge,
		"DECODE_AND_MERGE_SLASHES": call.PathDecodeAndMerge}
	spellings := []string{"/admin/x", "//admin//x", "/y/../admin/x", "/%61dmin/x", "/admin%2fx", "/admin%5Cx", "/%61dmin%2Fx", "/y%2f..%2fadmin/x", "/admin%252fx"}
	for name, level := range levels {
		for _, f := range faces {
			t.Run(name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				app, guarded, granted := new(recorder), new(recorder), new(recorder)
				config := meshDocument("{pathNormalization: {normalization: " + name + "}}")
				open := f.serve(t, inboundMesh(t, config), app)
				deny := f.serve(t, inboundMesh(t, config+policy("p", "{action: DENY, rules: [{to: [{operation: {paths: ['/admin/*']}}]}]}")), guarded)
				allow := f.serve(t, inboundMesh(t, config+policy("p", "{rules: [{to: [{operation: {notPaths: ['/admin/*']}}]}]}")), granted)
				for _, in := range spellings {
					want, _ := level.Spell(in)
					f.ask(t, open, visit{method: "GET", target: in, host: "web"})
					seen := app.take()
					if name == "BASE" && !strings.HasPrefix(f.name, "proxy") {
						seen = []string{want + " " + want} // where nothing is asked Handler leaves paths alone
					}
					if len(seen) != 1 || !strings.HasPrefix(seen[0], want+" ") {
						t.Errorf("%s arrives as %q, want %s", in, seen, want)
					}
					for what, addr := range map[string]string{"DENY": deny, "ALLOW": allow} {
						if got := f.ask(t, addr, visit{method: "GET", target: in, host: "web"}); got.status != 403 {
							t.Errorf("%s past %s: %d", in, what, got.status)
						}
					}
				}
				if seen := append(guarded.take(), granted.take()...); len(seen) > 0 {
					t.Errorf("the program is asked %q", seen)
				}
			})
		}
	}
}

// headersOf shows the program's view of a request's fields.
type headersOf struct{ seen chan http.Header }

func (h headersOf) ServeHTTP(_ http.ResponseWriter, r *http.Request) { h.seen <- r.Header.Clone() }

// TestClaims: nobody outside says what only the mesh says (attacks.md B-036, B-039), and what is the caller's own arrives.
func TestClaims(t *testing.T) {
	t.Parallel()
	sent := http.Header{
		"X-Heddle-Peer": {"a"}, "X_heddle_peer": {"a"}, "X-Envoy-Internal": {"true"}, "X-Envoy-External-Address": {"10.0.0.1"},
		"X-Envoy-Original-Path": {"/admin"}, "X-Envoy-Original-Host": {"a"}, "X_envoy_original_path": {"/admin"}, "X-Envoy-Max-Retries": {"9"},
		"X-Envoy-Retry-On": {"5xx"}, "X-Envoy-Upstream-Rq-Timeout-Ms": {"1"}, "X-Envoy-Decorator-Operation": {"a"}, "X-Envoy-Peer-Metadata": {"a"},
		"X-Envoy-Force-Trace": {"true"}, "X-Envoy-Fault-Abort-Request": {"503"},
	}
	kept := http.Header{
		"X-Envoy-Attempt-Count": {"2"}, "X-Envoy-Expected-Rq-Timeout-Ms": {"60000"}, "X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Proto": {"https"},
		"X-Forwarded-Host": {"a"}, "Forwarded": {"for=a"}, "X-Real-Ip": {"203.0.113.9"}, "X-Original-Url": {"/b"}, "X-Http-Method-Override": {"PUT"},
		"X-Heddled": {"a"}, "X-Envoyed": {"a"},
	}
	all := maps.Clone(sent)
	maps.Copy(all, kept)
	for _, f := range faces {
		for _, rules := range []string{"", policy("p", "{rules: [{}]}")} {
			t.Run(fmt.Sprintf("%s, policies %v", f.name, rules != ""), func(t *testing.T) {
				t.Parallel()
				app := headersOf{make(chan http.Header, 1)}
				f.ask(t, f.serve(t, inboundMesh(t, rules), app), visit{method: "GET", target: "/", host: "web", header: all})
				got := <-app.seen
				for name := range sent {
					if v := got[http.CanonicalHeaderKey(name)]; v != nil {
						t.Errorf("%s arrives: %q", name, v)
					}
				}
				for name, want := range kept {
					if !slices.Equal(got[name], want) {
						t.Errorf("%s arrives as %q, want %q", name, got[name], want)
					}
				}
			})
		}
	}
	t.Run("policies see none", func(t *testing.T) {
		t.Parallel()
		f := newGRPCFace(t, inboundMesh(t, policy("p", `{rules: [{when: [{key: "request.headers[x-envoy-internal]", values: ["true"]}]}]}`)))
		if code, _, ran := f.call(t.Context(), "/pkg.Service/Method", "web", metadata.Pairs("x-envoy-internal", "true")); code != codes.PermissionDenied || ran {
			t.Errorf("%v, ran %v", code, ran)
		}
	})
}

// TestFaultsAreTheCallers: what a rule injects, and its CORS policy, it does to calls of the host's; no document puts either on what a
// workload receives (istio-semantics.md §2.2 HTTPRoute fault, client side).
func TestFaultsAreTheCallers(t *testing.T) {
	t.Parallel()
	config := inboundMetered[:strings.Index(inboundMetered, "---")] + `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    corsPolicy: {allowOrigins: [{exact: "https://shop.example"}]}
    route: [{destination: {host: web}}]
`
	header := http.Header{"Origin": {"https://shop.example"}}
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			m := inboundMesh(t, config)
			resp, err := m.Client().Get("http://web/")
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusTeapot {
				t.Errorf("a call: %d", resp.StatusCode)
			}
			got := f.ask(t, f.serve(t, m, new(recorder)), visit{method: "GET", target: "/", host: "web", header: header})
			if got.status != http.StatusOK || got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("what is received: %d, %v", got.status, got.header)
			}
		})
	}
	t.Run("gRPC", func(t *testing.T) {
		t.Parallel()
		f := newGRPCFace(t, inboundMesh(t, config))
		if code, message, ran := f.call(t.Context(), "/pkg.Service/Method", "web", metadata.Pairs("origin", "https://shop.example")); code != codes.OK || !ran {
			t.Errorf("%v %q, ran %v", code, message, ran)
		}
	})
}

// TestTrustedHops: x-forwarded-for is believed of as many proxies as the mesh says, counted from our side (attacks.md B-036).
func TestTrustedHops(t *testing.T) {
	t.Parallel()
	allow := policy("p", `{rules: [{from: [{source: {remoteIpBlocks: [203.0.113.0/24]}}]}]}`)
	deny := policy("p", `{action: DENY, rules: [{when: [{key: remote.ip, values: [203.0.113.0/24]}]}]}`)
	peers := policy("p", `{rules: [{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}]}`)
	gateway := meshDocument("{defaultConfig: {gatewayTopology: {}}}")
	behind := meshDocument("{defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}}")
	for _, c := range []struct {
		name, config string
		forwarded    []string
		allowed      bool
	}{
		{"nobody is believed", allow, []string{"203.0.113.9"}, false},
		{"the gateway is", gateway + allow, []string{"203.0.113.9"}, true},
		{"the last counts", gateway + allow, []string{"203.0.113.9, 198.51.100.1"}, false},
		{"over several fields", gateway + allow, []string{"198.51.100.1", "10.0.0.1,203.0.113.9"}, true},
		{"what the client says is not it", gateway + allow, []string{"203.0.113.9, 10.0.0.1"}, false},
		{"a proxy before it", behind + allow, []string{"203.0.113.9, 198.51.100.1"}, true},
		{"a proxy before it, client's word", behind + allow, []string{"203.0.113.9, 192.0.2.1, 198.51.100.1"}, false},
		{"too few", behind + allow, []string{"203.0.113.9"}, false},
		{"no address", gateway + allow, []string{"203.0.113.9:80"}, false},
		{"nothing forwarded", gateway + allow, nil, false},
		{"DENY", gateway + deny, []string{"203.0.113.9"}, false},
		{"DENY, another", gateway + deny, []string{"203.0.113.9, 198.51.100.1"}, true},
		{"DENY, no address", gateway + deny, []string{"unknown"}, false},
		{"DENY, nothing forwarded", gateway + deny, nil, true},
		{"ipBlocks are of the connection", gateway + peers, []string{"203.0.113.9"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := 403
			if c.allowed {
				want = 200
			}
			v := visit{method: "GET", target: "/", host: "web", header: http.Header{}}
			if c.forwarded != nil {
				v.header["X-Forwarded-For"] = c.forwarded
			}
			for _, f := range faces {
				if got := f.ask(t, f.serve(t, inboundMesh(t, c.config), new(recorder)), v); got.status != want {
					t.Errorf("%s: %d", f.name, got.status)
				}
			}
			f := newGRPCFace(t, inboundMesh(t, c.config))
			if code, _, ran := f.call(t.Context(), "/pkg.Service/Method", "web", metadata.MD{"x-forwarded-for": c.forwarded}); ran != c.allowed {
				t.Errorf("gRPC: %v, ran %v", code, ran)
			}
		})
	}
}
