package grpcmesh

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// marked reports whether the program's .proto says that an RPC of the method may be made twice with the effect of once (option
// idempotency_level of the method: IDEMPOTENT or NO_SIDE_EFFECTS). Methods whose file is not linked are not marked.
func marked(method string) bool {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	if !name.IsValid() {
		return false
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return false
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return false
	}
	o, ok := m.Options().(*descriptorpb.MethodOptions)
	return ok && o.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}

// heedMark has the engine know of it. It is asked only where something depends on it.
func (r *rpc) heedMark() {
	if !r.looked {
		r.looked = true
		if marked(r.named) {
			r.call.Idempotent()
		}
	}
}
