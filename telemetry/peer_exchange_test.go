package telemetry

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// TestPeerExchange: what goes in front of a connection is what Istio's proxies send there, and theirs is understood.
func TestPeerExchange(t *testing.T) {
	w := Workload{Name: "db-v1", App: "db", Version: "v1", Cluster: "east", CanonicalService: "db", CanonicalRev: "v1"}
	metadata, id := TellPeer(Workload{Name: w.Name, Namespace: "shop", App: w.App, Version: w.Version, Cluster: w.Cluster, CanonicalService: w.CanonicalService, CanonicalRev: w.CanonicalRev})
	b := AppendPeerExchange([]byte("x"), metadata, id)[1:]
	size, ok := PeerExchangeSize(b[:PeerExchangeHead])
	if !ok || size != len(b)-PeerExchangeHead || binary.BigEndian.Uint32(b) != 1025705063 {
		t.Fatalf("%q, %d, %v", b, size, ok)
	}
	var message anypb.Any
	var all, own structpb.Struct
	raw, _ := base64.StdEncoding.DecodeString(metadata)
	if err := proto.Unmarshal(b[PeerExchangeHead:], &message); err != nil {
		t.Fatal(err)
	}
	if err := message.UnmarshalTo(&all); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(raw, &own); err != nil {
		t.Fatal(err)
	}
	want := &structpb.Struct{Fields: map[string]*structpb.Value{"x-envoy-peer-metadata": structpb.NewStructValue(&own), "x-envoy-peer-metadata-id": structpb.NewStringValue(id)}}
	if !proto.Equal(&all, want) {
		t.Errorf("%v", &all)
	}
	if got, ok := PeerWorkload(PeerExchanged(b[PeerExchangeHead:])); !ok || got != w {
		t.Errorf("%+v, %v", got, ok)
	}
	theirs, err := anypb.New(want)
	if err != nil {
		t.Fatal(err)
	}
	sent, _ := proto.MarshalOptions{Deterministic: true}.Marshal(theirs)
	if got, ok := PeerWorkload(PeerExchanged(sent)); !ok || got != w {
		t.Errorf("of Istio's %+v, %v", got, ok)
	}
	if got := PeerExchanged(append(sent, 2<<3|2, 9)); got != "" {
		t.Errorf("of one that breaks off %q", got)
	}
	nothing := AppendPeerExchange(nil, "", "")
	if err := proto.Unmarshal(nothing[PeerExchangeHead:], &message); err != nil || message.UnmarshalTo(&all) != nil || len(all.Fields) != 0 || PeerExchanged(nothing[PeerExchangeHead:]) != "" {
		t.Errorf("who says nothing says %q", nothing)
	}
	other, _ := anypb.New(structpb.NewStringValue("x"))
	sent, _ = proto.Marshal(other)
	if got := PeerExchanged(sent); got != "" {
		t.Errorf("of another type %q", got)
	}
}

// FuzzPeerExchange: whatever a message is, it is read within bounds, and says the same when it is said again.
func FuzzPeerExchange(f *testing.F) {
	metadata, id := TellPeer(Workload{Name: "a", Namespace: "n", App: "b"})
	whole := AppendPeerExchange(nil, metadata, id)[PeerExchangeHead:]
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(bytes.Repeat([]byte("\x0a\x00\x12\x00"), 4))
	f.Add([]byte("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		said := PeerExchanged(b)
		if base64.StdEncoding.DecodedLen(len(said)) > len(b)+2 {
			t.Errorf("%d bytes come of %d", len(said), len(b))
		}
		if again := AppendPeerExchange(nil, said, ""); said != "" && PeerExchanged(again[PeerExchangeHead:]) != said {
			t.Errorf("%q is not what it was", said)
		}
	})
}
