package conformance

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// issuerKeys is the JWKS of issuerKey, and otherKeys one of a key that nobody has.
var (
	issuerKeys = fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":%q}]}`, base64url(issuerKey.Public().(ed25519.PublicKey)))
	otherKeys  = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"b","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
)

// remote writes a RequestAuthentication whose keys are fetched.
func remote(rule string) string {
	return "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: r}\nspec:\n  selector: {matchLabels: {app: web}}\n" +
		"  jwtRules: [" + rule + "]\n"
}

// serveKeys is an issuer on a real socket, in all its moods.
func serveKeys(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	writes := func(pattern, text string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	writes("/jwks", issuerKeys)
	writes("/other", otherKeys)
	writes("/html", "<html>sign in</html>")
	writes("/empty", `{"keys":[]}`)
	mux.HandleFunc("/500", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, issuerKeys, http.StatusInternalServerError)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/jwks", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/metadata", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/jwks", http.StatusFound)
	})
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/realm/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"issuer":"http://%s/realm","jwks_uri":"http://%s/jwks"}`, r.Host, r.Host)
	})
	mux.HandleFunc("/lies/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"issuer":"http://%s/realm","jwks_uri":"http://%s/jwks"}`, r.Host, r.Host)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// A keyRow is a source of keys and what becomes of a request with a token of the issuer's.
type keyRow struct {
	name, rule string // "$" is the issuer's address
	iss        string // of the token
	status     int
	body       string
}

func keyRows() []keyRow {
	const iss, failed = "https://issuer.example", "Jwks remote fetch is failed"
	return []keyRow{
		{"jwksUri", "{issuer: 'https://issuer.example', jwksUri: '$/jwks'}", iss, 200, ""},
		{"jwksUri, no issuer", "{jwksUri: '$/jwks'}", "whoever", 200, ""},
		{"jwksUri, redirected", "{issuer: 'https://issuer.example', jwksUri: '$/moved'}", iss, 200, ""},
		{"jwksUri, timeout", "{issuer: 'https://issuer.example', jwksUri: '$/jwks', timeout: 60s}", iss, 200, ""},
		{"jwksUri, other keys", "{issuer: 'https://issuer.example', jwksUri: '$/other'}", iss, 401, "Jwt verification fails"},
		{"jwksUri, 500", "{issuer: 'https://issuer.example', jwksUri: '$/500'}", iss, 401, failed},
		{"jwksUri, HTML", "{issuer: 'https://issuer.example', jwksUri: '$/html'}", iss, 401, failed},
		{"jwksUri, no keys", "{issuer: 'https://issuer.example', jwksUri: '$/empty'}", iss, 401, failed},
		{"jwksUri, redirect loop", "{issuer: 'https://issuer.example', jwksUri: '$/loop'}", iss, 401, failed},
		{"jwksUri, redirected to metadata", "{issuer: 'https://issuer.example', jwksUri: '$/metadata'}", iss, 401, failed},
		{"jwksUri, no answer, timeout", "{issuer: 'https://issuer.example', jwksUri: '$/silent', timeout: 50ms}", iss, 401, failed},
		{"jwksUri, nobody there", "{issuer: 'https://issuer.example', jwksUri: 'http://127.0.0.1:1/'}", iss, 401, failed},
		{"discovery", "{issuer: '$/realm'}", "$/realm", 200, ""},
		{"discovery, another's", "{issuer: '$/lies'}", "$/lies", 401, failed},
		{"discovery, not found", "{issuer: '$/nothing'}", "$/nothing", 401, failed},
	}
}

// TestRemoteKeyRows: keys that are fetched, in every face. Without them a token is refused, and who brings none is treated as
// policies say (attacks.md C-053, C-054).
func TestRemoteKeyRows(t *testing.T) {
	t.Parallel()
	issuer := serveKeys(t)
	named := policy("p", "{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}")
	for _, row := range keyRows() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			documents := strings.ReplaceAll(remote(row.rule), "$", issuer)
			token := tokenOf(map[string]any{"iss": strings.ReplaceAll(row.iss, "$", issuer)})
			m := inboundMesh(t, documents, mesh.WithLoopbackKeys())
			for _, f := range faces {
				addr := f.serve(t, m, &witness{make(chan string, 1)})
				got := f.ask(t, addr, visit{method: "GET", target: "/", host: "web", header: http.Header{"Authorization": {"Bearer " + token}}})
				if got.status != row.status || row.body != "" && got.body != row.body {
					t.Errorf("%s: answered %d %q, want %d %q", f.name, got.status, got.body, row.status, row.body)
				}
				if got := f.ask(t, addr, visit{method: "GET", target: "/", host: "web"}); got.status != 200 {
					t.Errorf("%s: without a token it is answered %d", f.name, got.status)
				}
			}
			rpc := newGRPCFace(t, m)
			want := map[int]codes.Code{200: codes.OK, 401: codes.Unauthenticated}[row.status]
			if code, message, ran := rpc.call(t.Context(), "/pkg.Service/Method", "web", metadata.Pairs("authorization", "Bearer "+token)); code != want || ran != (row.status == 200) || row.body != "" && message != row.body {
				t.Errorf("gRPC: %v %q, ran %v", code, message, ran)
			}
			if code, _, ran := rpc.call(t.Context(), "/pkg.Service/Method", "web", nil); code != codes.OK || !ran {
				t.Errorf("gRPC without a token: %v", code)
			}
			keys := m.Status().TokenKeys
			if len(keys) != 1 || (keys[0].Failure == "") != (row.body != "Jwks remote fetch is failed") {
				t.Errorf("status %+v", keys)
			}
			if err := m.Apply(t.Context(), []byte(documents+named)); err != nil {
				t.Fatal(err)
			}
			if code, _, ran := rpc.call(t.Context(), "/pkg.Service/Method", "web", nil); code != codes.PermissionDenied || ran {
				t.Errorf("gRPC without a token, where a policy asks for one: %v", code)
			}
		})
	}
}

// TestLoopbackKeys: without being allowed to, nobody asks this machine, whatever it is called.
func TestLoopbackKeys(t *testing.T) {
	t.Parallel()
	issuer := serveKeys(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(issuer, "http://"), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"} {
		m := inboundMesh(t, remote("{issuer: 'https://issuer.example', jwksUri: 'http://"+host+":"+port+"/jwks'}"))
		if keys := m.Status().TokenKeys; len(keys) != 1 || !strings.Contains(keys[0].Failure, "this machine") {
			t.Errorf("%s: %+v", host, keys)
		}
	}
}

// TestSourceSwap: another source by Apply bites on connections that are open, and two meshes of one process know nothing of each
// other's keys.
func TestSourceSwap(t *testing.T) {
	t.Parallel()
	issuer := serveKeys(t)
	documents := func(path string) string {
		return remote("{issuer: 'https://issuer.example', jwksUri: '" + issuer + path + "'}")
	}
	visiting := visit{method: "GET", target: "/", host: "web", header: http.Header{"Authorization": {"Bearer " + tokenOf(nil)}}}
	for _, f := range faces {
		m, other := inboundMesh(t, documents("/jwks"), mesh.WithLoopbackKeys()), inboundMesh(t, documents("/other"), mesh.WithLoopbackKeys())
		addr := f.serve(t, m, &witness{make(chan string, 1)})
		otherAddr := f.serve(t, other, &witness{make(chan string, 1)})
		for i, step := range []struct {
			path   string
			status int
		}{{"/jwks", 200}, {"/other", 401}, {"/jwks", 200}, {"/html", 401}} {
			if err := m.Apply(t.Context(), []byte(documents(step.path))); err != nil {
				t.Fatal(err)
			}
			if got := f.ask(t, addr, visiting); got.status != step.status {
				t.Errorf("%s, step %d: %d", f.name, i, got.status)
			}
			if got := f.ask(t, otherAddr, visiting); got.status != 401 {
				t.Errorf("%s, step %d: the other mesh answers %d", f.name, i, got.status)
			}
		}
		if keys := m.Status().TokenKeys; len(keys) != 1 || keys[0].URL != issuer+"/html" {
			t.Errorf("still fetched: %+v", keys)
		}
	}
}

// TestKeyTakenBack: what a key has let in ends when the issuer takes it back, by the next fetch: further requests, and gRPC
// streams that are open, at once, also where nothing moves on them (attacks.md C-056).
func TestKeyTakenBack(t *testing.T) {
	t.Parallel()
	const documents = `apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: r}
spec:
  jwtRules: [{issuer: 'https://issuer.example', jwksUri: 'http://issuer.test/jwks'}]
`
	meshtest.Run(t, meshtest.YAML(documents), func(t *testing.T, e *meshtest.Env) {
		var mu sync.Mutex
		keys, fetched := issuerKeys, time.Time{} // when the other keys first were
		e.HTTP("issuer.test", nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if keys == otherKeys && fetched.IsZero() {
				fetched = time.Now()
			}
			_, _ = io.WriteString(w, keys)
		}))
		e.HTTP("web", nil, e.Mesh().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			claims, _ := mesh.ClaimsFromContext(r.Context())
			fmt.Fprintf(w, "%v", claims["sub"])
		})))
		e.GRPC("chat", nil, func(r grpc.ServiceRegistrar) {
			r.RegisterService(&grpc.ServiceDesc{ServiceName: "pkg.Service", HandlerType: (*any)(nil),
				Streams: []grpc.StreamDesc{{StreamName: "Stream", Handler: echoes, ServerStreams: true, ClientStreams: true}}}, struct{}{})
		}, grpcmesh.ServerOptions(e.Mesh())...)
		time.Sleep(3 * time.Second) // the issuer was not there at first
		token := tokenOf(map[string]any{"exp": time.Now().Add(48 * time.Hour).Unix()})
		get := func() (int, string) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://web/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			resp, err := e.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			return resp.StatusCode, string(body)
		}
		ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token))
		defer cancel()
		open := func() grpc.ClientStream {
			s, err := e.Dial("chat").NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/pkg.Service/Stream")
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		stream, silent := open(), open()
		type end struct {
			at  time.Time
			err error
		}
		over := make(chan end, 1)
		go func() {
			err := silent.RecvMsg(new(emptypb.Empty))
			over <- end{time.Now(), err}
		}()
		say := func() error {
			if err := stream.SendMsg(new(emptypb.Empty)); err != nil && !errors.Is(err, io.EOF) { // the status is RecvMsg's to give
				return err
			}
			return stream.RecvMsg(new(emptypb.Empty))
		}
		if status, body := get(); status != 200 || body != "alice" {
			t.Errorf("%d %s", status, body)
		}
		if err := say(); err != nil {
			t.Error(err)
		}
		mu.Lock()
		keys = otherKeys
		mu.Unlock()
		time.Sleep(330 * time.Second) // the longest pause between fetches
		synctest.Wait()
		if status, body := get(); status != 401 || body != "Jwt verification fails" {
			t.Errorf("after the key is gone: %d %s", status, body)
		}
		if err := say(); grpcstatus.Code(err) != codes.Unauthenticated {
			t.Errorf("the stream goes on: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if last := <-over; grpcstatus.Code(last.err) != codes.Unauthenticated || !last.at.Equal(fetched) {
			t.Errorf("a silent stream ends %s after the keys came: %v", last.at.Sub(fetched), last.err)
		}
	})
}

func echoes(_ any, s grpc.ServerStream) error {
	for {
		in := new(emptypb.Empty)
		if err := s.RecvMsg(in); err != nil {
			return err
		}
		if err := s.SendMsg(in); err != nil {
			return err
		}
	}
}
