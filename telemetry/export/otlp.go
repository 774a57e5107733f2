package export

import (
	"encoding/binary"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

// encodeOTLP writes an ExportTraceServiceRequest (opentelemetry-proto v1, trace_service.proto). The numbers of fields are
// those of the messages; a mesh's spans have neither events nor links. All spans of a batch, of which there is at least one, are of one resource and scope.
func encodeOTLP(resource []attribute.KeyValue, spans []Span) ([]byte, error) {
	var about, scope, list []byte
	for _, a := range resource {
		about = field(about, 1, keyValue(a))
	}
	scope = textField(scope, 1, spans[0].Scope)
	list = field(list, 1, scope)
	for i := range spans {
		list = field(list, 2, otlpSpan(&spans[i]))
	}
	return field(nil, 1, field(field(nil, 1, about), 2, list)), nil
}

func otlpSpan(s *Span) []byte {
	sc, parent := s.Context, s.Parent
	traceID, spanID := sc.TraceID(), sc.SpanID()
	b := field(nil, 1, traceID[:])
	b = field(b, 2, spanID[:])
	b = textField(b, 3, sc.TraceState().String())
	if parent.HasSpanID() {
		id := parent.SpanID()
		b = field(b, 4, id[:])
	}
	b = textField(b, 5, s.Name)
	b = number(b, 6, uint64(s.Kind)) // the same numbers
	b = time64(b, 7, s.Start.UnixNano())
	b = time64(b, 8, s.End.UnixNano())
	for _, a := range s.Attributes {
		b = field(b, 9, keyValue(a))
	}
	if s.Status != codes.Unset {
		code := uint64(1) // STATUS_CODE_OK
		if s.Status == codes.Error {
			code = 2
		}
		b = field(b, 15, number(textField(nil, 2, s.Description), 3, code))
	}
	const hasIsRemote, isRemote = 0x100, 0x200 // of the parent
	flags := uint32(sc.TraceFlags()) | hasIsRemote
	if parent.IsRemote() {
		flags |= isRemote
	}
	b = protowire.AppendTag(b, 16, protowire.Fixed32Type)
	return protowire.AppendFixed32(b, flags)
}

// keyValue writes an attribute as common.v1.KeyValue.
func keyValue(a attribute.KeyValue) []byte {
	var v []byte
	switch a.Value.Type() {
	case attribute.BOOL:
		n := uint64(0)
		if a.Value.AsBool() {
			n = 1
		}
		v = protowire.AppendVarint(protowire.AppendTag(v, 2, protowire.VarintType), n)
	case attribute.INT64:
		v = protowire.AppendVarint(protowire.AppendTag(v, 3, protowire.VarintType), uint64(a.Value.AsInt64()))
	default:
		v = protowire.AppendString(protowire.AppendTag(v, 1, protowire.BytesType), a.Value.String())
	}
	return field(textField(nil, 1, string(a.Key)), 2, v)
}

func field(b []byte, n protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), value)
}

func textField(b []byte, n protowire.Number, value string) []byte {
	if value == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), value)
}

func number(b []byte, n protowire.Number, value uint64) []byte {
	if value == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), value)
}

func time64(b []byte, n protowire.Number, nanos int64) []byte {
	return binary.LittleEndian.AppendUint64(protowire.AppendTag(b, n, protowire.Fixed64Type), uint64(nanos))
}
