package grpcmesh_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// A volume is a histogram of sizes: how many there are, and what they come to.
type volume struct {
	count uint64
	sum   float64
}

// volumeOf reads one of a mesh's.
func volumeOf(m *mesh.Mesh, name, method, status string) (v volume) {
	want := map[string]string{"grpc_method": strings.TrimPrefix(method, "/"), "grpc_status": status}
	for _, f := range m.Metrics().Gather() {
		if f.Name != "grpc_"+name+"_total_compressed_message_size_bytes" || f.Kind != telemetry.Histogram {
			continue
		}
		for _, s := range f.Samples {
			fits := 0
			for _, l := range s.Labels {
				if want[l.Name] == l.Value {
					fits++
				}
			}
			if fits == len(want) {
				v.count, v.sum = v.count+s.Distribution.Count, v.sum+s.Distribution.Sum
			}
		}
	}
	return v
}

// has waits until the four histograms of a method say so: sent and received by the client.
func has(t *testing.T, client, server *mesh.Mesh, method, status string, sent, received volume) {
	t.Helper()
	var last [4]volume
	until(t, "sizes of "+method, func() bool {
		last = [4]volume{volumeOf(client, "client_attempt_sent", method, status), volumeOf(client, "client_attempt_rcvd", method, status),
			volumeOf(server, "server_call_rcvd", method, status), volumeOf(server, "server_call_sent", method, status)}
		return last[0].count == sent.count && last[2].count == sent.count
	})
	if want := [4]volume{sent, received, sent, received}; last != want {
		t.Errorf("%s %s: client sent and received, server received and sent %v, want %v", method, status, last, want)
	}
}

// gzipped gives the size of a text's message by gzip.
func gzipped(t *testing.T, s string) float64 {
	t.Helper()
	data, err := proto.Marshal(text(s))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	w, err := encoding.GetCompressor(gzip.Name).Compress(&b)
	if err == nil {
		_, err = w.Write(data)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return float64(b.Len())
}

// wordy is protobuf's codec that writes lengths in more bytes than they need: what it sends is longer than what is read from it.
type wordy struct{}

func (wordy) Marshal(any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer("\x0a\x81\x00x")}, nil
}

func (wordy) Unmarshal(data mem.BufferSlice, v any) error {
	return encoding.GetCodecV2("proto").Unmarshal(data, v)
}

func (wordy) Name() string { return "proto" }

// meshes gives a server with sizes, and a client's mesh and channel to it.
func meshes(t *testing.T, name, rule string, answer func(context.Context, string) (string, error)) (client, server *mesh.Mesh, cc *grpc.ClientConn) {
	t.Helper()
	server = newMesh(t, service("127.0.0.1:1"))
	e := newEcho(name, grpcmesh.ServerOptions(server, grpcmesh.WithMessageSizes())...)
	e.answer = answer
	startAt(t, "127.0.0.1:0", e)
	client = newMesh(t, service(e.addr)+rule)
	return client, server, dial(t, client, "echo:9080", grpcmesh.WithMessageSizes())
}

// TestMessageSizes: each attempt and each received RPC is counted with the bytes of its messages on the wire, whoever has compressed or
// encoded them and how.
func TestMessageSizes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 1000)
	for _, row := range []struct {
		name           string
		asked, said    string
		opts           []grpc.CallOption
		unasked        bool // the server compresses
		sent, received float64
	}{
		{name: "proto", asked: "x", said: long, sent: 3, received: 1003},
		{name: "nothing", sent: 0, received: 0},
		{name: "gzip", asked: long, said: long, opts: []grpc.CallOption{grpc.UseCompressor(gzip.Name)}, sent: gzipped(t, long), received: gzipped(t, long)},
		{name: "gzip unasked", asked: long, said: long, unasked: true, sent: 1003, received: gzipped(t, long)},
		{name: "another codec", asked: "x", said: "y", opts: []grpc.CallOption{grpc.ForceCodecV2(wordy{})}, sent: 4, received: 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			client, server, cc := meshes(t, "", "", func(ctx context.Context, _ string) (string, error) {
				if row.unasked {
					return row.said, grpc.SetSendCompressor(ctx, gzip.Name)
				}
				return row.said, nil
			})
			for range 2 {
				if err := cc.Invoke(t.Context(), who, text(row.asked), text(""), append(row.opts, grpc.StaticMethod())...); err != nil {
					t.Fatal(err)
				}
			}
			has(t, client, server, who, "OK", volume{2, 2 * row.sent}, volume{2, 2 * row.received})
		})
	}
}

// TestMessageSizesOfStreams: a stream is counted at its end, with all its messages.
func TestMessageSizesOfStreams(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		desc           *grpc.StreamDesc
		method         string
		sends          int
		sent, received float64
	}{
		{downDesc, down, 1, 7, 5 * 4}, // five names for a message of five letters
		{upDesc, up, 4, 4 * 7, 6},     // "v1 4"
		{bothDesc, both, 3, 3 * 7, 3 * 4},
	} {
		t.Run(row.desc.StreamName, func(t *testing.T) {
			t.Parallel()
			client, server, cc := meshes(t, "v1", "", nil)
			s, err := cc.NewStream(t.Context(), row.desc, row.method, grpc.StaticMethod())
			if err != nil {
				t.Fatal(err)
			}
			for range row.sends {
				if err := s.SendMsg(text("five!")); err != nil {
					t.Fatal(err)
				}
			}
			if v := volumeOf(client, "client_attempt_sent", row.method, "OK"); v != (volume{}) {
				t.Errorf("before its end %v", v)
			}
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			for err == nil {
				err = s.RecvMsg(text(""))
			}
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			has(t, client, server, row.method, "OK", volume{1, row.sent}, volume{1, row.received})
		})
	}
}

// TestMessageSizesOfAttempts: each attempt has its own, by how it ended, also one that could go on beside another.
func TestMessageSizesOfAttempts(t *testing.T) {
	t.Parallel()
	if err := linked(); err != nil {
		t.Fatal(err)
	}
	for name, rule := range map[string]string{
		"repeated": careful("attempts: 2, retryOn: unavailable"),
		"hedged":   hedging("attempts: 2, perTryTimeout: 600s, retryOn: unavailable"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var failed atomic.Bool
			client, server, cc := meshes(t, "", rule, func(context.Context, string) (string, error) {
				if !failed.Swap(true) {
					return "", status.Error(codes.Unavailable, "not now")
				}
				return "yes", nil
			})
			if got, err := ask(t.Context(), cc, other, grpc.StaticMethod()); got != "yes" {
				t.Fatal(got, err)
			}
			// the echo's methods are one to the server's interceptors
			for status, received := range map[string]float64{"UNAVAILABLE": 0, "OK": 5} {
				var sent, got volume
				until(t, "sizes of the server", func() bool { return volumeOf(server, "server_call_rcvd", who, status).count == 1 })
				sent, got = volumeOf(client, "client_attempt_sent", other, status), volumeOf(client, "client_attempt_rcvd", other, status)
				if sent != (volume{1, 3}) || got != (volume{1, received}) {
					t.Errorf("%s: sent %v, received %v", status, sent, got)
				}
			}
		})
	}
}

// TestNoMessageSizes: who does not ask for them has none.
func TestNoMessageSizes(t *testing.T) {
	t.Parallel()
	server := newMesh(t, service("127.0.0.1:1"))
	client := newMesh(t, service(start(t, "v1", grpcmesh.ServerOptions(server)...).addr))
	must(t, dial(t, client, "echo:9080"), who)
	for _, m := range []*mesh.Mesh{client, server} {
		for _, f := range m.Metrics().Gather() {
			if strings.Contains(f.Name, "message_size") {
				t.Error(f.Name)
			}
		}
	}
}
