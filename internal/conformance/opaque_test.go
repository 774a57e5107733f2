package conformance

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/external"
)

// lines serves a protocol of lines, each answered by itself, behind the mesh's listener.
func lines(t *testing.T, m *mesh.Mesh) string {
	l := m.Listener(listenLocal(t), mesh.WithOpaque(), mesh.WithInboundPort(3306))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// A lineClient speaks that protocol.
type lineClient struct {
	net.Conn
	r *bufio.Reader
}

func dialLines(t *testing.T, addr string) *lineClient {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return &lineClient{c, bufio.NewReader(c)}
}

func (c *lineClient) answers() bool {
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return false
	}
	s, err := c.r.ReadString('\n')
	return s == "hello\n" && err == nil
}

// TestOpaque: policies on connections that are not HTTP. What asks for something of HTTP allows nothing and denies all the
// same (attacks.md A-052; istio.io, AuthorizationPolicy; bulletin 2019-001).
func TestOpaque(t *testing.T) {
	t.Parallel()
	allow := func(rule string) string { return policy("p", "{rules: ["+rule+"]}") }
	deny := func(rule string) string { return policy("p", "{action: DENY, rules: ["+rule+"]}") }
	for _, c := range []struct {
		name, config string
		in           bool
	}{
		{"no policy", "", true},
		{"ALLOW nothing", policy("p", "{}"), false},
		{"ALLOW all", allow("{}"), true},
		{"DENY all", deny("{}"), false},
		{"ipBlocks", allow("{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}"), true},
		{"other ipBlocks", allow("{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}"), false},
		{"remoteIpBlocks", allow("{from: [{source: {remoteIpBlocks: [127.0.0.0/8]}}]}"), true},
		{"DENY ipBlocks", deny("{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}"), false},
		{"ports", allow("{to: [{operation: {ports: ['3306']}}]}"), true},
		{"other ports", allow("{to: [{operation: {ports: ['80']}}]}"), false},
		{"principals, nobody", allow("{from: [{source: {principals: [cluster.local/ns/a/sa/b]}}]}"), false},
		{"DENY namespaces, nobody", deny("{from: [{source: {namespaces: [a]}}]}"), false},
		{"ALLOW methods", allow("{to: [{operation: {methods: [GET], ports: ['3306']}}]}"), false},
		{"ALLOW notPaths", allow("{to: [{operation: {notPaths: [/admin]}}]}"), false},
		{"ALLOW a header", allow(`{when: [{key: "request.headers[a]", notValues: [b]}]}`), false},
		{"ALLOW beside one of HTTP", allow("{to: [{operation: {methods: [GET]}}]}, {to: [{operation: {ports: ['3306']}}]}"), true},
		{"DENY methods", deny("{to: [{operation: {methods: [GET]}}]}"), false},
		{"DENY methods of a port", deny("{to: [{operation: {methods: [GET], ports: ['3306']}}]}"), false},
		{"DENY methods of another port", deny("{to: [{operation: {methods: [GET], ports: ['80']}}]}"), true},
		{"DENY a claim", deny(`{when: [{key: "request.auth.claims[a]", values: [b]}]}`), false},
		{"AUDIT", policy("p", "{action: AUDIT, rules: [{}]}"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := inboundMesh(t, c.config)
			if in := dialLines(t, lines(t, m)).answers(); in != c.in {
				t.Errorf("let in: %v", in)
			}
			if n := m.Status().Policies.Denied; n != 0 == c.in {
				t.Errorf("%d denials are counted", n)
			}
		})
	}
	t.Run("CUSTOM", func(t *testing.T) {
		t.Parallel()
		yes := external.AuthorizerFunc(func(context.Context, *external.Check) (external.Answer, error) {
			return external.Answer{Allowed: true}, nil
		})
		for port, in := range map[string]bool{"3306": false, "80": true} { // nobody can be asked about a connection
			m := inboundMesh(t, policy("p", "{action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {ports: ['"+port+"'], methods: [GET]}}]}]}"),
				mesh.WithAuthorizer("opa", yes))
			if got := dialLines(t, lines(t, m)).answers(); got != in {
				t.Errorf("port %s: let in: %v", port, got)
			}
		}
	})
	t.Run("a change", func(t *testing.T) {
		t.Parallel()
		m := inboundMesh(t, "")
		addr := lines(t, m)
		c := dialLines(t, addr)
		for _, spec := range []string{"{rules: [{}]}", "{action: DENY, rules: [{to: [{operation: {ports: ['80']}}]}]}"} {
			if err := m.Apply(t.Context(), []byte(policy("p", spec))); err != nil {
				t.Fatal(err)
			}
			if !c.answers() {
				t.Fatalf("%s ends it", spec)
			}
		}
		if err := m.Apply(t.Context(), []byte(policy("p", "{action: DENY, rules: [{to: [{operation: {ports: ['3306']}}]}]}"))); err != nil {
			t.Fatal(err)
		}
		if _, err := c.r.ReadByte(); err == nil {
			t.Error("a connection goes on that is not let in any more")
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection goes on that is not let in any more")
		}
	})
}
