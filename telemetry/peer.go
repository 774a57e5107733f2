package telemetry

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// Peers tell each other which workload they are in two fields of a request and of its answer, those of Istio's proxies
// (istio/proxy, peer_metadata): a google.protobuf.Struct in base64, and a name for it, by which receivers may remember it.
var (
	PeerMetadata   = call.NewName("x-envoy-peer-metadata")
	PeerMetadataID = call.NewName("x-envoy-peer-metadata-id")
)

// MaxPeerMetadata bounds what is read of a peer's metadata, in bytes. That of a sidecar of Istio with all its labels is below 3 KiB.
const MaxPeerMetadata = 8 << 10

// The fields of the struct (istio/proxy, extensions/common/metadata_object).
const (
	fieldName      = "NAME"
	fieldNamespace = "NAMESPACE"
	fieldWorkload  = "WORKLOAD_NAME"
	fieldOwner     = "OWNER"
	fieldCluster   = "CLUSTER_ID"
	fieldLabels    = "LABELS"
)

// TellPeer gives what a workload says of itself to its peers: the values of PeerMetadata and PeerMetadataID. They are "" where it
// knows nothing of itself but its namespace.
func TellPeer(w Workload) (metadata, id string) {
	if w.Name == "" && w.App == "" && w.CanonicalService == "" {
		return "", ""
	}
	var labels, all protoStruct
	labels.text(labelApp, w.App)
	labels.text(labelVersion, w.Version)
	labels.text(labelCanonical, w.CanonicalService)
	labels.text(labelCanonicalRv, w.CanonicalRev)
	all.text(fieldCluster, w.Cluster)
	all.entry(fieldLabels, valueStruct, labels)
	all.text(fieldName, w.Name)
	all.text(fieldNamespace, w.Namespace)
	if w.Name != "" && w.Namespace != "" {
		all.text(fieldOwner, "kubernetes://apis/apps/v1/namespaces/"+w.Namespace+"/deployments/"+w.Name)
	}
	all.text(fieldWorkload, w.Name)
	h := fnv.New64a()
	_, _ = h.Write(all)
	id = "sidecar~" + strconv.FormatUint(h.Sum64(), 16) + "~" + w.Name + "." + w.Namespace + "~" + w.Namespace + ".svc.cluster.local"
	return base64.StdEncoding.EncodeToString(all), id
}

// PeerWorkload reads what a peer says of itself in PeerMetadata: name, labels and cluster. What is no name or label of Kubernetes
// is left out, and so is the namespace, which a certificate tells. ok is false for what is no such field, or longer than
// MaxPeerMetadata.
func PeerWorkload(metadata string) (w Workload, ok bool) {
	if metadata == "" || len(metadata) > MaxPeerMetadata {
		return Workload{}, false
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(metadata, "="))
	if err != nil {
		return Workload{}, false
	}
	var name, cluster string
	labels := make(map[string]string, 4)
	ok = protoStruct(raw).each(func(key string, kind byte, value []byte) bool {
		switch {
		case key == fieldWorkload && kind == valueText:
			name = label(value)
		case key == fieldCluster && kind == valueText:
			cluster = label(value)
		case key == fieldLabels && kind == valueStruct:
			return protoStruct(value).each(func(key string, kind byte, value []byte) bool {
				if slices.Contains(toldLabels[:], key) && kind == valueText {
					labels[key] = label(value)
				}
				return true
			})
		}
		return true
	})
	if !ok {
		return Workload{}, false
	}
	w = WorkloadOf(name, "", labels)
	w.Cluster = cluster
	return w, true
}

// toldLabels are those that WorkloadOf reads and a peer may say: its cluster and its name it says otherwise.
var toldLabels = [...]string{labelApp, labelVersion, labelCanonical, labelCanonicalRv, labelAppName, labelAppVersion}

// label gives a text as a label of metrics, "" for what no name in Kubernetes is: they have at most 253 letters, digits, '-', '_' and '.'.
func label(value []byte) string {
	const most = 253
	if len(value) > most {
		return ""
	}
	for _, c := range value {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return ""
		}
	}
	return string(value)
}

// A protoStruct is a google.protobuf.Struct as it is sent: entries of a map in field 1, each with its key in field 1 and its value in
// field 2 (protobuf.dev, encoding; google/protobuf/struct.proto).
type protoStruct []byte

// The kinds of a google.protobuf.Value that are read, as the number of their field.
const (
	valueText   = 3
	valueStruct = 5
)

// The wire types of protobuf.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

func (s *protoStruct) text(key, value string) {
	if value != "" {
		s.entry(key, valueText, []byte(value))
	}
}

func (s *protoStruct) entry(key string, kind byte, value []byte) {
	var one []byte
	one = appendProto(one, 1, []byte(key))
	one = appendProto(one, 2, appendProto(nil, kind, value))
	*s = appendProto(*s, 1, one)
}

func appendProto(b []byte, field byte, value []byte) []byte {
	b = append(b, field<<3|wireBytes)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// each gives the entries whose value is of bytes to f, until that says false. It reports whether all of them could be read, and f took them.
func (s protoStruct) each(f func(key string, kind byte, value []byte) bool) bool {
	return eachProto(s, func(field uint64, entry []byte) bool {
		if field != 1 {
			return true
		}
		key, kind, value := "", byte(0), []byte(nil)
		whole := eachProto(entry, func(field uint64, part []byte) bool {
			switch field {
			case 1:
				key = string(part)
			case 2:
				return eachProto(part, func(of uint64, text []byte) bool {
					kind, value = byte(min(of, 255)), text
					return true
				})
			}
			return true
		})
		return whole && f(key, kind, value)
	})
}

// eachProto gives the fields of a message that are bytes to f, and skips the others. It reports whether the message is one.
func eachProto(b []byte, f func(field uint64, value []byte) bool) bool {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		b = b[n:]
		size := uint64(0)
		switch tag & 7 {
		case wireVarint:
			if _, n = binary.Uvarint(b); n <= 0 {
				return false
			}
			size = uint64(n)
		case wire64:
			size = 8
		case wire32:
			size = 4
		case wireBytes:
			if size, n = binary.Uvarint(b); n <= 0 {
				return false
			}
			b = b[n:]
		default:
			return false
		}
		if size > uint64(len(b)) {
			return false
		}
		if tag&7 == wireBytes && !f(tag>>3, b[:size]) {
			return false
		}
		b = b[size:]
	}
	return true
}
