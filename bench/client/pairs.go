package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

// pairs are both ends of a call, whose CPU is added up: net/http on both in plain text, and the mesh on both with its features on, in plain
// text and under STRICT with policies on who calls.
var pairs = []comparison{
	{"both ends, mutual TLS and all features ÷ plain net/http", "pair-mtls", "pair-bare", 0},
	{"both ends, mutual TLS ÷ the same in plain text", "pair-mtls", "pair-plain", 0},
	{"both ends, plain text ÷ plain net/http", "pair-plain", "pair-bare", 0},
}

// measurePair has a contender call a server of its kind, and adds up what both have spent on a call.
func measurePair(self, name, dir string, goroutines int, seconds float64) (m measure, err error) {
	if name == "pair-mtls" {
		if err := writeIdentities(dir); err != nil {
			return m, err
		}
	}
	s, err := startServer(self, "serve-"+name, dir)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	var serving measure
	var server sync.WaitGroup
	var failed error
	server.Go(func() {
		for _, d := range []float64{0.75 * seconds, seconds / 2} { // while the client measures
			time.Sleep(time.Duration(d * float64(time.Second)))
			failed = errors.Join(failed, s.tick())
		}
		if failed == nil {
			serving, failed = s.said()
		}
	})
	m, err = measureClient(self, name, s.address, dir, goroutines, seconds)
	server.Wait()
	if err = errors.Join(err, failed); err != nil {
		return m, err
	}
	m.CPU, m.Allocs, m.Bytes = m.CPU+serving.CPU, m.Allocs+serving.Allocs, m.Bytes+serving.Bytes
	return m, nil
}

// servingAs gives the options of a server of the name.
func servingAs(name, dir string) []mesh.Option {
	quiet := mesh.WithLogger(slog.New(slog.DiscardHandler))
	switch name {
	case "serve-pair-plain":
		return []mesh.Option{quiet, mesh.WithConfig([]byte(fmt.Sprintf(allowed, "to: [{operation: {methods: [GET]}}]")))}
	case "serve-pair-mtls":
		return []mesh.Option{quiet, mesh.WithIdentity(heldBy(dir, "server")), mesh.WithConfig([]byte(
			"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: STRICT}}\n---\n" +
				fmt.Sprintf(allowed, "to: [{operation: {methods: [GET]}}], from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]")))}
	}
	return nil
}

const allowed = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {rules: [{%s}]}\n"

// paired makes the caller of a pair.
func paired(kind, address, dir string) (*contender, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf(documents, host, port, "")
	opts := []mesh.Option{mesh.WithLogger(slog.New(slog.DiscardHandler))}
	if kind == "mtls" {
		opts = append(opts, mesh.WithIdentity(heldBy(dir, "client")))
		text = strings.Replace(text, "resolution: STATIC", "resolution: STATIC\n  location: MESH_INTERNAL", 1)
		text = strings.Replace(text, "endpoints: [{", "endpoints: [{serviceAccount: server, ", 1)
	}
	m, err := mesh.New(context.Background(), append(opts, mesh.WithConfig([]byte(text)))...)
	if err != nil {
		return nil, err
	}
	return &contender{rt: m.RoundTripper(), url: "http://reviews/reviews/1", ctx: carried(m), stop: func() { _ = m.Close() }}, nil
}

func heldBy(dir, account string) identity.Source {
	return identity.Files{Certificate: path(dir, account+".pem"), Key: path(dir, account+".key"), Bundle: path(dir, "bundle.pem")}
}

// writeIdentities has one authority issue the SVIDs of both ends into dir.
func writeIdentities(dir string) error {
	a, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		return err
	}
	for _, account := range []string{"server", "client"} {
		id, err := identity.Workload("cluster.local", "default", account)
		if err != nil {
			return err
		}
		m, err := a.Issue(id)
		if err != nil {
			return err
		}
		key, err := x509.MarshalPKCS8PrivateKey(m.SVID.PrivateKey)
		if err != nil {
			return err
		}
		var chain, bundle []byte
		for _, der := range m.SVID.Certificate {
			chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		for _, c := range m.Bundles["cluster.local"] {
			bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		for name, text := range map[string][]byte{account + ".pem": chain, "bundle.pem": bundle,
			account + ".key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
			if err := os.WriteFile(path(dir, name), text, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// idle says what n connections under mutual TLS on which nothing happens cost the server: its memory with them and without,
// by n.
func idle(n int) error {
	dir, err := os.MkdirTemp("", "bench-idle")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := writeIdentities(dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s, err := startServer(self, "serve-pair-mtls", dir)
	if err != nil {
		return err
	}
	defer func() { _ = s.end() }()
	id := identity.New(identity.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = id.Run(ctx, heldBy(dir, "client")) }()
	if err := id.WaitReady(ctx); err != nil {
		return err
	}
	var before int
	conns := make([]net.Conn, 0, n+1)
	for i := range n + 1 { // the first is for what is made once
		c, err := askOnce(s.address, id)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if conns = append(conns, c); i == 0 {
			if before, err = pss(s.cmd.Process.Pid); err != nil {
				return err
			}
		}
	}
	time.Sleep(3 * time.Second) // handshakes leave garbage
	after, err := pss(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	fmt.Printf("%d idle connections under mutual TLS: %.1f KiB each at the server (PSS %d KiB, %d KiB without)\n", n, float64(after-before)/float64(n), after, before)
	runtime.KeepAlive(conns)
	return nil
}

// askOnce makes a connection and one request on it.
func askOnce(address string, id *identity.Identity) (net.Conn, error) {
	config, err := id.ClientConfig(identity.ClientOptions{Protocols: []string{"istio-http/1.1", "istio", "http/1.1"}, Accounts: []string{"default/server"}})
	if err != nil {
		return nil, err
	}
	c, err := tls.Dial("tcp", address, config)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return c, err
}

// pss gives the memory of a process in KiB, of what it shares its share.
func pss(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); words[0] == "Pss:" {
			return strconv.Atoi(words[1])
		}
	}
	return 0, errors.New("no Pss in smaps_rollup")
}
