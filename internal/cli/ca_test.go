//go:build unix

package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/identity"
)

// caDir makes an authority by the command, in a directory whose name is short enough for sockets.
func caDir(t *testing.T, args ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ca") //nolint:usetesting // t.TempDir's names are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	dir = filepath.Join(dir, "ca.d")
	if r := heddle(t, "", append([]string{"ca", "init", dir}, args...)...); r.code != exitOK || !strings.HasPrefix(r.stdout, "trust domain ") {
		t.Fatalf("init: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
	return dir
}

func TestCAUsage(t *testing.T) {
	t.Parallel()
	dir := caDir(t)
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no command", nil, exitUsage, "no command given: init, serve, sign or show"},
		{"unknown command", []string{"renew"}, exitUsage, `unknown command "renew" for "heddle ca"`},
		{"init nowhere", []string{"init"}, exitUsage, "no directory of an authority given"},
		{"init twice", []string{"init", dir}, exitFailed, dir + " is not empty (bundle.pem): an authority is not replaced; take another directory, or move this one"},
		{"init in a directory of others", []string{"init", open}, exitFailed, open + ": mode 0755 lets others in; 0700 is right (chmod 700 " + open + ")"},
		{"trust domain", []string{"init", dir + "2", "--trust-domain", "A"}, exitUsage,
			`--trust-domain "A" has a character that a trust domain may not have: lower-case letters, digits, '.', '-' and '_' are all`},
		{"lives", []string{"init", dir + "2", "--life", "200h"}, exitUsage,
			"a root needs four times the life of an issuing authority, and that four times the life of an SVID: they are replaced with overlap"},
		{"serve nobody", []string{"serve", dir}, exitUsage, "no --workload given: there is nobody to issue to"},
		{"serve without an authority", []string{"serve", dir + "2", "--workload", "a/b"}, exitInput,
			"there is no authority in " + dir + "2: stat " + dir + "2: no such file or directory"},
		{"serve a workload that is none", []string{"serve", dir, "--workload", "web"}, exitUsage,
			`--workload "web": expected name=namespace/account or namespace/account`},
		{"serve two of a name", []string{"serve", dir, "--workload", "a/web", "--workload", "b/web"}, exitUsage,
			"--workload b/web: the name web is given twice; name=namespace/account gives another"},
		{"serve Istio's protocol nowhere", []string{"serve", dir, "--workload", "a/web", "--istio", "15012"}, exitUsage, "--istio 15012: expected host:port"},
		{"federate twice", []string{"serve", dir, "--federate", "a=b", "--federate", "a=c"}, exitUsage,
			`invalid argument "a=c" for "--federate" flag: trust domain a is given twice`},
		{"sign whom", []string{"sign", dir}, exitUsage, "expected the directory of an authority and namespace/account"},
		{"sign where", []string{"sign", dir, "a/b"}, exitUsage, "no --out given: where should the key go?"},
		{"sign for long", []string{"sign", dir, "a/b", "--out", dir + "3", "--life", "2h"}, exitUsage,
			"--life 2h0m0s: the authority was made to sign for 1h0m0s at the most"},
		{"sign nothing", []string{"sign", dir, "a/b", "--csr", dir + "/none"}, exitInput, "stat " + dir + "/none: no such file or directory"},
		{"sign what is no request", []string{"sign", dir, "a/b", "--csr", dir + "/bundle.pem"}, exitInput,
			dir + "/bundle.pem: read CSR: expected a certificate request in PEM"},
		{"show nothing", []string{"show", dir + "2"}, exitInput, "there is no authority in " + dir + "2: stat " + dir + "2: no such file or directory"},
		{"show how", []string{"show", dir, "-o", "der"}, exitUsage, `invalid argument "der" for "-o, --output" flag: expected one of text, json, pem`},
	} {
		r := heddle(t, "", append([]string{"ca"}, c.args...)...)
		first, _, _ := strings.Cut(r.stderr, "\n")
		if r.code != c.code || r.stdout != "" {
			t.Errorf("%s: exit code %d, want %d; stdout %q", c.name, r.code, c.code, r.stdout)
		}
		same(t, c.name, first, "heddle: "+c.says)
	}
	if r := heddle(t, "", "proxy-config", "secrets", "--admin", "127.0.0.1:1"); r.code != exitFailed || !strings.HasPrefix(r.stderr, "heddle: ask heddle proxy at 127.0.0.1:1: ") {
		t.Errorf("secrets of nobody: exit code %d, %s", r.code, r.stderr)
	}
}

// TestCASign: what sign writes is what a program takes as its identity; of a request it signs nothing but the key.
func TestCASign(t *testing.T) {
	t.Parallel()
	dir := caDir(t, "--trust-domain", "dev.example")
	out := filepath.Join(t.TempDir(), "id")
	sign := []string{"ca", "sign", dir, "shop/web", "--out", out}
	if r := heddle(t, "", sign...); r.code != exitOK || r.stdout != "" {
		t.Fatalf("exit code %d, %s", r.code, r.stderr)
	}
	files := identity.Files{Certificate: filepath.Join(out, "svid.pem"), Key: filepath.Join(out, "key.pem"), Bundle: filepath.Join(out, "bundle.pem")}
	id := identity.New(identity.Options{})
	go func() { _ = id.Run(t.Context(), files) }()
	if err := id.WaitReady(t.Context()); err != nil || id.ID().String() != "spiffe://dev.example/ns/shop/sa/web" {
		t.Errorf("%s, %v", id.ID(), err)
	}
	if info, err := os.Stat(files.Key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", info.Mode(), err)
	}
	if r := heddle(t, "", sign...); r.code != exitFailed || !strings.Contains(r.stderr, "is there already") {
		t.Errorf("again: exit code %d, %s", r.code, r.stderr)
	}
	if r := heddle(t, "", append(sign, "--replace")...); r.code != exitOK {
		t.Errorf("replace: exit code %d, %s", r.code, r.stderr)
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	admin, _ := url.Parse("spiffe://dev.example/ns/shop/sa/admin")
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{admin}, DNSNames: []string{"a.example"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	request := filepath.Join(t.TempDir(), "request.pem")
	if err := os.WriteFile(request, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	r := heddle(t, "", "ca", "sign", dir, "shop/web", "--csr", request, "--life", "1m")
	block, _ := pem.Decode([]byte(r.stdout))
	if r.code != exitOK || block == nil {
		t.Fatalf("exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || leaf.URIs[0].String() != "spiffe://dev.example/ns/shop/sa/web" || len(leaf.DNSNames) != 0 || !key.PublicKey.Equal(leaf.PublicKey) {
		t.Errorf("%v %v, %v", leaf.URIs, leaf.DNSNames, err)
	}
}

// TestCAAndSidecars: two sidecars with identities of a development CA, of which one takes callers under STRICT. The CA may
// go and come back. No key is in anything that any of them says (C-037).
func TestCAAndSidecars(t *testing.T) {
	t.Parallel()
	dir := caDir(t)
	serve := []string{"ca", "serve", dir, "--workload", "default/web", "--workload", "ratings-v1=default/ratings", "--istio", "127.0.0.1:0"}
	socket := func(name string) string { return "unix://" + filepath.Join(dir, "sockets", name+".sock") }

	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }))
	t.Cleanup(app.Close)
	strict := t.TempDir()
	if err := os.WriteFile(filepath.Join(strict, "a.yaml"), []byte("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"+
		"metadata: {name: default, namespace: default}\nspec: {mtls: {mode: STRICT}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := spawn(t, nil, "--config", strict, "--service-account", "ratings", "--workload-api", socket("ratings-v1"),
		"--inbound", "127.0.0.1:0="+app.Listener.Addr().String(), "--outbound", "none", "--admin", "127.0.0.1:0")
	server.until("mesh identity refused") // it is there before the CA is
	authority := spawnCommand(t, nil, serve...)
	authority.until("heddle ca is ready")
	if r := heddle(t, "", append(serve, "--sockets", dir+"2")...); r.code != exitFailed || !strings.Contains(r.stderr, "another process uses the authority") {
		t.Errorf("a second server: exit code %d, %s", r.code, r.stderr)
	}
	at := server.addresses()
	host, port, _ := net.SplitHostPort(at["inbound"])
	mesh := t.TempDir()
	if err := os.WriteFile(filepath.Join(mesh, "a.yaml"), []byte(fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ratings}
spec:
  hosts: [ratings.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: %s, ports: {http: %s}, serviceAccount: ratings}]
`, host, port)), 0o600); err != nil {
		t.Fatal(err)
	}
	client := spawn(t, []string{"SPIFFE_ENDPOINT_SOCKET=" + socket("web")}, "--config", mesh, "--service-account", "web",
		"--outbound", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	from := client.addresses()

	ask := func(what string) {
		t.Helper()
		body, err := fetchThrough(from["outbound"], "http://ratings:9080/"+what)
		if err != nil || body != "/"+what {
			t.Errorf("%s: %q, %v", what, body, err)
		}
	}
	ask("first")
	if body, err := fetch("http://" + at["inbound"] + "/"); err == nil {
		t.Errorf("in plain text: %q", body)
	}
	for name, c := range map[string]string{"spiffe://cluster.local/ns/default/sa/ratings": at["admin"], "spiffe://cluster.local/ns/default/sa/web": from["admin"]} {
		r := heddle(t, "", "proxy-config", "secrets", "--admin", c)
		if r.code != exitOK || strings.Count(r.stdout, "\n") != 4 || !strings.Contains(r.stdout, name+" ") || strings.Count(r.stdout, " valid ") != 3 {
			t.Errorf("secrets: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
		var held identity.Secrets
		if r := heddle(t, "", "proxy-config", "secrets", "--admin", c, "-o", "json"); json.Unmarshal([]byte(r.stdout), &held) != nil ||
			len(held.Certificates) != 1 || held.Certificates[0].CertChain[0].Names[0].URI != name || held.Certificates[0].CertChain[0].Serial == "" {
			t.Errorf("secrets: %s", r.stdout)
		}
	}

	authority.signal(syscall.SIGTERM)
	if code := authority.code(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	server.until("the last good one is kept")
	client.until("the last good one is kept")
	ask("without-a-CA")
	again := spawnCommand(t, nil, serve...)
	server.until("mesh identity taken")
	client.until("mesh identity taken")
	ask("with-it-again")

	var said strings.Builder
	for _, p := range []*process{authority, again, server, client} {
		said.WriteString(p.said())
	}
	for _, admin := range []string{at["admin"], from["admin"]} {
		for _, page := range []string{"/", "/certs", "/config_dump", "/clusters", "/failures", "/server_info", "/stats/prometheus"} {
			body, err := fetch("http://" + admin + page)
			if err != nil {
				t.Errorf("%s: %v", page, err)
			}
			said.WriteString(body)
		}
	}
	for _, output := range []string{"text", "json", "pem"} {
		said.WriteString(heddle(t, "", "ca", "show", dir, "-o", output).stdout)
	}
	for _, p := range []*process{again, server, client} {
		for _, of := range []string{"environ", "cmdline"} { // where there is /proc
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, of))
			said.Write(text)
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "issued.jsonl"))
	if err != nil || strings.Count(string(log), "sa/ratings") < 2 {
		t.Errorf("the log has %s, %v", log, err)
	}
	said.Write(log)
	noKeys(t, dir, said.String())
}

// noKeys looks for the authority's keys and tokens, and for any key.
func noKeys(t *testing.T, dir, said string) {
	t.Helper()
	secrets := []string{"PRIVATE KEY"}
	for _, name := range []string{"root-1.pem", "issuing-1.pem"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(text, text)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := pair.PrivateKey.(*ecdsa.PrivateKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw))
	}
	tokens, err := filepath.Glob(filepath.Join(dir, "sockets", "*.token"))
	if err != nil || len(tokens) != 2 {
		t.Errorf("tokens: %v, %v", tokens, err)
	}
	for _, name := range tokens {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, strings.TrimSpace(string(text)))
	}
	for _, s := range secrets {
		if strings.Contains(said, s) {
			t.Errorf("a secret is told: %.12s…", s)
		}
	}
}

// fetchThrough asks through a proxy.
func fetchThrough(proxy, target string) (string, error) {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: proxy}), DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get(target)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
