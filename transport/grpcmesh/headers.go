package grpcmesh

import (
	"encoding/base64"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/call"
)

// headers are metadata as they are on the wire: binary values in base64, and a content-type. A map converts
// to it, and it to call.Headers, without allocating.
type headers metadata.MD

// Value implements call.Headers.
func (h headers) Value(n *call.Name, i int) (string, bool) {
	name := n.Lower()
	v := h[name]
	if i < len(v) {
		if strings.HasSuffix(name, binary) {
			return base64.RawStdEncoding.EncodeToString([]byte(v[i])), true
		}
		return v[i], true
	}
	if i == 0 && name == "content-type" {
		return "application/grpc", true
	}
	return "", false
}

// reserved names in a program's metadata are never sent: grpc-go writes these fields itself.
var reserved = map[string]bool{
	"user-agent": true, "te": true, "grpc-message-type": true, "grpc-encoding": true, "grpc-message": true,
	"grpc-status": true, "grpc-timeout": true, "grpc-accept-encoding": true,
}

// sent shows the metadata of an RPC to rules. It is copied out of the context when something is first looked
// up: most rules look at none.
type sent rpc

// Value implements call.Headers.
func (s *sent) Value(n *call.Name, i int) (string, bool) {
	if reserved[n.Lower()] {
		return "", false
	}
	s.load()
	return headers(s.own).Value(n, i)
}

func (s *sent) load() {
	if !s.read {
		s.own, _ = metadata.FromOutgoingContext(s.Context)
		s.read = true
	}
}

const binary = "-bin"

// outgoing gives a header value as metadata has it: bytes for a binary one. It reports false for what
// grpc-go would refuse, and fail the RPC for.
func outgoing(name, value string) (string, bool) {
	if strings.HasSuffix(name, binary) {
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
		return string(b), err == nil
	}
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return "", false
		}
	}
	return value, true
}
