package telemetry

import (
	"encoding/base64"
	"encoding/binary"
)

// Over connections that are not HTTP peers tell each other of their workloads in front of all else, each on its way: a magic number, a length,
// both of four bytes with the highest first, and so many bytes of a google.protobuf.Any with a google.protobuf.Struct, whose entries are those
// of HTTP's two fields (istio/proxy, source/extensions/filters/network/metadata_exchange).

const (
	// PeerExchangeHead is the size of what says how long the rest is, in bytes.
	PeerExchangeHead = 8
	// MaxPeerExchange bounds the rest.
	MaxPeerExchange = 16 << 10

	exchangeMagic = 0x3D230467
	structType    = "type.googleapis.com/google.protobuf.Struct"
)

// AppendPeerExchange appends what goes in front. metadata and id are TellPeer's, "" for who says nothing of himself.
func AppendPeerExchange(b []byte, metadata, id string) []byte {
	var all protoStruct
	if raw, err := base64.StdEncoding.DecodeString(metadata); err == nil && len(raw) > 0 {
		all.entry(PeerMetadata.Lower(), valueStruct, raw)
		all.text(PeerMetadataID.Lower(), id)
	}
	message := appendProto(appendProto(nil, 1, []byte(structType)), 2, all)
	b = binary.BigEndian.AppendUint32(b, exchangeMagic)
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	return append(b, message...)
}

// PeerExchangeSize gives the size of the rest by its head, of PeerExchangeHead bytes. ok is false for what is none, or of one that is longer than
// MaxPeerExchange.
func PeerExchangeSize(head []byte) (size int, ok bool) {
	n := binary.BigEndian.Uint32(head[4:])
	return int(n), binary.BigEndian.Uint32(head) == exchangeMagic && n <= MaxPeerExchange
}

// PeerExchanged reads the rest: the metadata that PeerWorkload takes, "" where it has none that can be read.
func PeerExchanged(message []byte) (metadata string) {
	kind, all := "", protoStruct(nil)
	if !eachProto(message, func(field uint64, value []byte) bool {
		switch field {
		case 1:
			kind = string(value)
		case 2:
			all = value
		}
		return true
	}) || kind != structType {
		return ""
	}
	var said []byte
	if !all.each(func(key string, kind byte, value []byte) bool {
		if key == PeerMetadata.Lower() && kind == valueStruct {
			said = value
		}
		return true
	}) {
		return ""
	}
	return base64.StdEncoding.EncodeToString(said)
}
