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
	codec := codecOf(opts)
	message, err := codec.marshal(req)
	if err != nil {
		return // the RPC will say why it cannot be sent, and is not
	}
	of := append(copied(opts), r.opts...)
	of = append(of, grpc.ForceCodecV2(encoded{codec.name}))
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

// A codec is what grpc-go would encode an RPC's messages by, and the name that it goes by.
type codec struct {
	name string
	own  encoding.CodecV2
	old  encoding.Codec
}

func codecOf(opts []grpc.CallOption) (c codec) {
	name := ""
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.ContentSubtypeCallOption:
			c.name, name = o.ContentSubtype, o.ContentSubtype
		case grpc.ForceCodecV2CallOption:
			c.own, c.old = o.CodecV2, nil
		case grpc.ForceCodecCallOption:
			c.own, c.old = nil, o.Codec
		}
	}
	switch {
	case c.own != nil && name == "":
		c.name = c.own.Name()
	case c.old != nil && name == "":
		c.name = c.old.Name()
	case c.own == nil && c.old == nil:
		if name == "" {
			name = "proto"
		}
		if c.own = encoding.GetCodecV2(name); c.own == nil {
			c.old = encoding.GetCodec(name)
		}
	}
	return c
}

// marshal makes bytes of a message.
func (c codec) marshal(req any) (message []byte, err error) {
	switch {
	case c.own != nil:
		var data mem.BufferSlice
		if data, err = c.own.Marshal(req); err == nil {
			message = data.Materialize()
			data.Free()
		}
	case c.old != nil:
		message, err = c.old.Marshal(req)
	default:
		err = errNoCodec
	}
	return message, err
}

var errNoCodec = errors.New("grpcmesh: no codec of the RPC's content-subtype")

// An encoded is the codec of messages that are bytes already. An answer is given as bytes to who asks for them.
type encoded struct{ name string }

// Marshal implements encoding.CodecV2, as do Unmarshal and Name.
func (encoded) Marshal(v any) (mem.BufferSlice, error) {
	message, _ := v.([]byte)
	return mem.BufferSlice{mem.SliceBuffer(message)}, nil
}

func (encoded) Unmarshal(data mem.BufferSlice, v any) error {
	if b, ok := v.(*[]byte); ok && b != nil {
		*b = data.Materialize()
	}
	return nil
}

func (c encoded) Name() string { return c.name }
