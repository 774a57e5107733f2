package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/workload"
	"github.com/heddlemesh/mesh/internal/dashboards"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/proxy"
	"github.com/heddlemesh/mesh/telemetry"
)

// A tcpPair is two sidecars beside BookInfo, of a caller and of a service that is not HTTP: by mutual TLS, under a CA of their own.
type tcpPair struct {
	caller, callee *proxy.Sidecar
	calls          atomic.Int64
}

const tcpService = "echo.default.svc.cluster.local"

// A call sends asked bytes and gets each of them twice.
const askedBytes, answeredBytes = 10_000, 20_000

// tcpCounts are what one call adds to each metric, at both sides.
var tcpCounts = map[string]int{telemetry.ConnsOpened: 1, telemetry.ConnsClosed: 1, telemetry.BytesReceived: askedBytes, telemetry.BytesSent: answeredBytes}

var tcpBytes = []string{telemetry.BytesReceived, telemetry.BytesSent}

// tcpEdge matches its series by reporter. The callee knows the caller by its certificate only.
const tcpEdge = `reporter=%q,source_principal="spiffe://` + trustDomain + `/ns/default/sa/bookinfo-client",destination_workload="echo-v1",destination_service="` + tcpService + `",request_protocol="tcp",response_flags="-"`

// startTCP starts them, and the service.
func startTCP(ctx context.Context, t *testing.T) *tcpPair {
	t.Helper()
	client := &instance{spec: spec{name: "client-v1", service: "client", version: "v1"}}
	echo := &instance{spec: spec{name: "echo-v1", service: "echo", version: "v1"}}
	by, err := openIssuer([]*instance{client, echo}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(by.stop)
	at := loopback.Free(t)
	_, port, _ := net.SplitHostPort(at)
	rules := fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: echo}
spec:
  hosts: [%s]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 7, name: tcp, protocol: TCP}]
  endpoints: [{address: 127.0.0.1, ports: {tcp: %s}, labels: {%s}, serviceAccount: %s}]
`, tcpService, port, joined(workloadLabels(echo.service, echo.version), ": ", ", "), echo.account())
	sidecar := func(i *instance, c proxy.Config) *proxy.Sidecar {
		var err error
		c.Admin, c.Guard = anyPort, proxy.NewGuard(nil)
		c.Mesh, err = mesh.New(ctx, mesh.WithConfig([]byte(rules)), mesh.WithLogger(slog.New(slog.DiscardHandler)), mesh.WithDialer(c.Guard.DialContext),
			mesh.WithIdentity(workload.API{Address: by.endpoint(i)}), mesh.WithWorkload(mesh.Workload{Namespace: "default",
				Name: i.name, ServiceAccount: i.account(), Labels: workloadLabels(i.service, i.version)}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Mesh.Close() })
		s, err := proxy.Start(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Shutdown(context.WithoutCancel(ctx)) })
		return s
	}
	return &tcpPair{
		callee: sidecar(echo, proxy.Config{Inbound: []proxy.Inbound{{Listen: at, App: serveTwice(t), Opaque: true}}}),
		caller: sidecar(client, proxy.Config{OutboundTCP: []proxy.OutboundTCP{{Listen: anyPort, Host: tcpService, Port: 7}}}),
	}
}

// serveTwice sends what each connection has sent twice, when that is all.
func serveTwice(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b, err := io.ReadAll(conn)
				if err == nil {
					_, _ = conn.Write(append(b, b...))
				}
			}()
		}
	}()
	return l.Addr().String()
}

// call makes one connection through both sidecars.
func (p *tcpPair) call(ctx context.Context, t *testing.T) {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.caller.TCPAddrs()[0].String())
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err = conn.Write(bytes.Repeat([]byte("x"), askedBytes)); err == nil {
		err = conn.(*net.TCPConn).CloseWrite()
	}
	got := int64(0)
	if err == nil {
		got, err = io.Copy(io.Discard, conn)
	}
	if err != nil || got != answeredBytes {
		t.Errorf("%d bytes, %v", got, err)
		return
	}
	p.calls.Add(1)
}

// targets are those of the two, as bookinfo's are.
func (p *tcpPair) targets() []byte {
	return fmt.Appendf(nil, "- {targets: [%q], labels: {mesh: sidecar, name: client-v1}}\n- {targets: [%q], labels: {mesh: sidecar, name: echo-v1}}\n",
		p.caller.AdminAddr(), p.callee.AdminAddr())
}

// tcpCounted says which calls have not been counted yet.
func (o *observation) tcpCounted(t *testing.T, at time.Time) error {
	t.Helper()
	for _, reporter := range []string{"source", "destination"} {
		for metric, each := range tcpCounts {
			want := int(o.tcp.calls.Load()) * each
			if n := o.sum(t, "sum("+metric+"{"+fmt.Sprintf(tcpEdge, reporter)+"})", at); int(n) != want {
				return fmt.Errorf("%s of the %s is %v, and %d was sent", metric, reporter, n, want)
			}
		}
	}
	return nil
}

// ofTCP chooses in the place of one service or workload of BookInfo, which is HTTP, those of TCP, where a query asks for that.
func ofTCP(expr string, values map[string][]string) map[string][]string {
	if !strings.Contains(expr, "istio_tcp_") {
		return values
	}
	for name, one := range map[string]string{"service": dashboards.Escape(tcpService), "workload": "echo-v1"} {
		if name == "workload" && strings.Contains(expr, "source_workload=~\"$workload\"") {
			one = "client-v1"
		}
		if chosen := values[name]; len(chosen) > 0 && chosen[0] != ".*" {
			values = with(values, name, one)
		}
	}
	return values
}
