package grpcmesh

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// answered makes the error of an RPC that the rules answer. An answer without the one message that is due is an error
// too, as it is where a server gives it.
func answered(a *transport.Answer) error {
	code, message := a.ForGRPC()
	if code == uint32(codes.OK) {
		return errEmpty
	}
	return grpcstatus.Error(codes.Code(code), message)
}

// headerOf gives the header of a rule's answer as metadata, but for what speaks of a body that an RPC does not get.
func (r *rpc) headerOf(a *transport.Answer) metadata.MD {
	md := metadata.MD{}
	a.Header(editor{headers(md)}, &r.call, &r.asked)
	delete(md, "content-type")
	return md
}

// tell gives a unary RPC that the rule has answered the header of that, where the program asks for trailers: of an answer
// that is all in one block grpc-go calls the block so.
func (r *rpc) tell(opts []grpc.CallOption) {
	if len(r.answer) == 0 {
		return
	}
	for _, o := range opts {
		if o, ok := o.(grpc.TrailerCallOption); ok {
			*o.TrailerAddr = r.answer.Copy()
		}
	}
}

// errEmpty is the answer OK by a rule. Where any number of messages may come it is none.
var errEmpty = grpcstatus.Error(codes.Internal, "the rule answers OK, without a message")

// emptyStream is a stream that the rules have answered with OK.
type emptyStream struct {
	ctx    context.Context
	answer metadata.MD
}

func (emptyStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (s emptyStream) Trailer() metadata.MD       { return s.answer }
func (emptyStream) CloseSend() error             { return nil }
func (s emptyStream) Context() context.Context   { return s.ctx }
func (emptyStream) SendMsg(any) error            { return io.EOF }
func (emptyStream) RecvMsg(any) error            { return io.EOF }

// edit makes the rule's changes to method, authority and metadata, in the place of those that an earlier decision has
// made, and adds what the attempt tells of itself.
func (r *rpc) edit() {
	defer r.mark()
	r.Context, r.method, r.opts = r.plain, r.named, nil
	if r.edited = r.call.EditsRequest(); !r.edited {
		return
	}
	(*sent)(r).load() // rules go on to see what the program has sent
	path, authority := r.call.Target(&r.asked)
	md, _ := metadata.FromOutgoingContext(r.Context) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	r.call.EditRequest(editor{headers(md)}, &r.asked, path, authority)
	r.Context = metadata.NewOutgoingContext(r.Context, md)
	r.method = path
	if authority != r.asked.Authority {
		r.opts = []grpc.CallOption{grpc.CallAuthority(authority)}
	}
}

// editAnswer makes the rule's changes to the header of a unary RPC's answer, where there is one and the program has
// asked for it. What is all of an answer is its header, though grpc-go calls it a trailer.
func (r *rpc) editAnswer(err error, opts []grpc.CallOption) {
	if !r.call.EditsResponse() || err != nil && r.last.Status == 0 {
		return
	}
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			if *o.HeaderAddr != nil {
				r.editHeader(*o.HeaderAddr)
			}
		case grpc.TrailerCallOption:
			if whole(*o.TrailerAddr) {
				r.editHeader(*o.TrailerAddr)
			}
		}
	}
}

func (r *rpc) editHeader(md metadata.MD) {
	r.call.EditResponse(editor{headers(md)}, &r.asked, 200)
}

// An editor is metadata as rules edit it. What grpc-go writes itself, or would fail the RPC for, it leaves
// alone.
type editor struct{ headers }

// Value implements call.HeaderEditor: what is never sent is not there.
func (e editor) Value(n *call.Name, i int) (string, bool) {
	if reserved[n.Lower()] {
		return "", false
	}
	return e.headers.Value(n, i)
}

// Set implements call.HeaderEditor.
func (e editor) Set(n *call.Name, value string) {
	if v, ok := e.allowed(n, value); ok {
		e.headers[n.Lower()] = []string{v}
	}
}

// Add implements call.HeaderEditor.
func (e editor) Add(n *call.Name, value string) {
	if v, ok := e.allowed(n, value); ok {
		e.headers[n.Lower()] = append(e.headers[n.Lower()], v)
	}
}

// Remove implements call.HeaderEditor.
func (e editor) Remove(n *call.Name) { delete(e.headers, n.Lower()) }

func (e editor) allowed(n *call.Name, value string) (string, bool) {
	if reserved[n.Lower()] {
		return "", false
	}
	return outgoing(n.Lower(), value)
}
