package grpcmesh

import (
	"encoding/base64"
	wire "encoding/binary"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/transport"
)

// An asked is an RPC that somebody is asked about.
type asked struct {
	md     metadata.MD
	sent   sentBody
	remote netip.AddrPort
}

// A sentBody gives the body that an RPC has begun with, as transport.Asked has it.
type sentBody func(most int) (first []byte, more bool, err error)

// bodyOf gives that of a unary RPC: its message encoded once more and framed. Of a stream, which has req nil, nothing
// has been read yet.
func bodyOf(req any) sentBody {
	return func(most int) ([]byte, bool, error) {
		if req == nil {
			return nil, true, nil
		}
		codec := encoding.GetCodecV2("proto")
		if codec == nil {
			return nil, false, errors.New("no codec for the message")
		}
		made, err := codec.Marshal(req)
		if err != nil {
			return nil, false, err
		}
		defer made.Free()
		if made.Len() > math.MaxUint32 {
			return nil, false, errors.New("the message is too large")
		}
		framed := wire.BigEndian.AppendUint32([]byte{0}, uint32(made.Len()))
		framed = append(framed, made.Materialize()...)
		return framed[:min(len(framed), most)], len(framed) > most, nil
	}
}

// Header implements transport.Asked.
func (a *asked) Header() http.Header {
	h := make(http.Header, len(a.md)+1)
	h["Content-Type"] = []string{"application/grpc"}
	for name, values := range a.md {
		if strings.HasPrefix(name, ":") {
			continue
		}
		own := make([]string, len(values))
		for i, v := range values {
			if own[i] = v; strings.HasSuffix(name, binary) {
				own[i] = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
		}
		h[textproto.CanonicalMIMEHeaderKey(name)] = own
	}
	return transport.OwnHeader(h)
}

// Body implements transport.Asked.
func (a *asked) Body(most int) (first []byte, more bool, err error) { return a.sent(most) }

// Size implements transport.Asked.
func (a *asked) Size() int64 { return -1 }

// Trail implements transport.Asked.
func (a *asked) Trail() string {
	return strings.Join(a.md.Get(external.TrailHeader), " ")
}

// Remote implements transport.Asked.
func (a *asked) Remote() netip.AddrPort { return a.remote }
