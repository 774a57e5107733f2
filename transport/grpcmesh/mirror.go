package grpcmesh

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // what grpc-go encodes by where nobody says otherwise
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/transport"
)

// mirror sends the copies of a unary RPC that the rule asks for, each an RPC of its own over the same channel: one attempt, with
// the message and metadata that the endpoint gets, whose answer nobody reads. The message is encoded here, because the
// program may change it as soon as its own RPC is over.
func (r *rpc) mirror(req any, invoke grpc.UnaryInvoker, opts []grpc.CallOption) {
	copies := r.call.Copies(&r.asked)
	if copies == nil {
		return
	}
	codec, message, err := encode(req, opts)
	if err != nil {
		return // the RPC will say why it cannot be sent, and is not
	}
	of := append(copied(opts), r.opts...)
	of = append(of, grpc.ForceCodecV2(codec))
	md, _ := metadata.FromOutgoingContext(r.Context)
	for _, p := range copies {
		_, outside := p.Direct() // the channel has no connection there
		if p.Start(len(message) <= transport.MirrorLimit && !outside) {
			go r.shadow(p, md, message, invoke, of)
		}
	}
}

// unmirrored counts the copies that there would be of a stream. To send what comes when it comes, for an endpoint to keep
// up with that may not hold the stream up, would be another stream than the one it is a copy of.
func (r *rpc) unmirrored() {
	for _, p := range r.call.Copies(&r.asked) {
		p.Start(false)
	}
}

// shadow makes one copy's only attempt.
func (r *rpc) shadow(p *transport.Copy, md metadata.MD, message []byte, invoke grpc.UnaryInvoker, opts []grpc.CallOption) {
	defer p.End()
	ctx, cancel := p.Context()
	defer cancel()
	s := &rpc{Context: metadata.NewOutgoingContext(ctx, md), caller: context.Background(), stop: cancel, driver: r.driver, cc: r.cc,
		to: r.to, named: r.method, method: r.method, call: p.Call, once: true, fixed: true}
	if s.resolved() != nil {
		return
	}
	err := invoke(s, s.method, message, nil, s.cc, opts...)
	s.unpin(err)
	s.late(err)
}

// copied are those of an RPC's options that its copies have too: what decides how they are sent. The others are about who
// waits for the answer.
func copied(opts []grpc.CallOption) []grpc.CallOption {
	var rest []grpc.CallOption
	for _, o := range opts {
		switch o.(type) {
		case grpc.CompressorCallOption, grpc.MaxSendMsgSizeCallOption, grpc.PerRPCCredsCallOption, grpc.AuthorityOverrideCallOption:
			rest = append(rest, o)
		}
	}
	return rest
}

// encode makes bytes of the message by the codec that grpc-go would take, and gives one that takes those as they are, under
// the same name.
func encode(req any, opts []grpc.CallOption) (codec encoded, message []byte, err error) {
	var old encoding.Codec
	var own encoding.CodecV2
	name := ""
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.ContentSubtypeCallOption:
			codec.name, name = o.ContentSubtype, o.ContentSubtype
		case grpc.ForceCodecV2CallOption:
			own, old = o.CodecV2, nil
		case grpc.ForceCodecCallOption:
			own, old = nil, o.Codec
		}
	}
	switch {
	case own != nil && name == "":
		codec.name = own.Name()
	case old != nil && name == "":
		codec.name = old.Name()
	case own == nil && old == nil:
		if name == "" {
			name = "proto"
		}
		if own = encoding.GetCodecV2(name); own == nil {
			old = encoding.GetCodec(name)
		}
	}
	switch {
	case own != nil:
		var data mem.BufferSlice
		if data, err = own.Marshal(req); err == nil {
			message = data.Materialize()
			data.Free()
		}
	case old != nil:
		message, err = old.Marshal(req)
	default:
		err = errNoCodec
	}
	return codec, message, err
}

var errNoCodec = errors.New("grpcmesh: no codec of the RPC's content-subtype")

// An encoded is the codec of messages that are bytes already, and of answers that nobody reads.
type encoded struct{ name string }

// Marshal implements encoding.CodecV2, as do Unmarshal and Name.
func (encoded) Marshal(v any) (mem.BufferSlice, error) {
	message, _ := v.([]byte)
	return mem.BufferSlice{mem.SliceBuffer(message)}, nil
}

func (encoded) Unmarshal(mem.BufferSlice, any) error { return nil }

func (c encoded) Name() string { return c.name }
