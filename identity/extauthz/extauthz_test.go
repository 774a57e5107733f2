package extauthz

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh/identity/external"
)

// TestRequest: all that a Check says is where Envoy says it.
func TestRequest(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700000000, 5)
	c := &external.Check{ID: "id", Time: at, Method: "PUT", Scheme: "https", Host: "web", Path: "/a", Query: "b=c", Protocol: "HTTP/2", Size: 7,
		Header: http.Header{"X-A": {"1", "2"}, "X-Bin": {"\xff"}, "X-Envoy-Downstream-Service-Cluster": {"reviews"}}, Body: []byte("a\xff"), WithBody: true, Partial: true,
		Source: netip.MustParseAddrPort("[::ffff:192.0.2.7]:1234"), Local: netip.MustParseAddrPort("[fe80::1%eth0]:80"),
		Peer: "spiffe://cluster.local/ns/a/sa/b", Self: "spiffe://cluster.local/ns/c/sa/d", SNI: "sni", Trail: "t"}
	want := `attributes {
		source { address { socket_address { address: "192.0.2.7" port_value: 1234 } } service: "reviews" principal: "spiffe://cluster.local/ns/a/sa/b" }
		destination { address { socket_address { address: "fe80::1" port_value: 80 } } principal: "spiffe://cluster.local/ns/c/sa/d" }
		request { time { seconds: 1700000000 nanos: 5 } http { id: "id" method: "PUT" path: "/a?b=c" host: "web" scheme: "https" size: 7 protocol: "HTTP/2" body: "a!"
			headers { key: "x-a" value: "1,2" } headers { key: "x-bin" value: "!" } headers { key: "x-envoy-downstream-service-cluster" value: "reviews" }
			headers { key: "x-envoy-auth-partial-body" value: "true" }
			headers { key: ":method" value: "PUT" } headers { key: ":path" value: "/a?b=c" } headers { key: ":authority" value: "web" } headers { key: ":scheme" value: "https" } } }
		tls_session { sni: "sni" } }`
	expected := new(auth.CheckRequest)
	if err := prototext.Unmarshal([]byte(want), expected); err != nil {
		t.Fatal(err)
	}
	if got := request(c); !proto.Equal(got, expected) {
		t.Errorf("asks\n%s\nwant\n%s", prototext.Format(got), prototext.Format(expected))
	}
	if got := request(&external.Check{Size: -1}); got.GetAttributes().GetSource().GetAddress() != nil || got.GetAttributes().GetTlsSession() != nil || got.GetAttributes().GetRequest().GetHttp().GetSize() != -1 {
		t.Errorf("of nothing: %v", got)
	}
}

// TestEdits: the default replaces, and what is older than append_action counts.
func TestEdits(t *testing.T) {
	t.Parallel()
	field := &core.HeaderValue{Key: "x-a", Value: "1"}
	for want, o := range map[external.Edit]*core.HeaderValueOption{
		{Name: "x-a", Value: "1"}:                                {Header: field},
		{Name: "x-a", Value: "raw"}:                              {Header: &core.HeaderValue{Key: "x-a", RawValue: []byte("raw")}},
		{Name: "x-a", Value: "2"}:                                {Header: &core.HeaderValue{Key: "x-a", Value: "2"}, Append: wrapperspb.Bool(false), AppendAction: core.HeaderValueOption_ADD_IF_ABSENT},
		{Name: "x-a", Value: "1", Action: external.Append}:       {Header: field, Append: wrapperspb.Bool(true)},
		{Name: "x-a", Value: "1", Action: external.AddIfAbsent}:  {Header: field, AppendAction: core.HeaderValueOption_ADD_IF_ABSENT},
		{Name: "x-a", Value: "1", Action: external.SetIfPresent}: {Header: field, AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS},
		{Name: "x-a", Value: "3"}:                                {Header: &core.HeaderValue{Key: "x-a", Value: "3"}, AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD},
		{Name: "", Value: ""}:                                    {},
	} {
		if got := edits([]*core.HeaderValueOption{o}); len(got) != 1 || got[0] != want {
			t.Errorf("%v: %+v, want %+v", o, got, want)
		}
	}
}
