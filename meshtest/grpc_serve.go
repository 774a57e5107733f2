package meshtest

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
)

// Where gRPC has its codes and texts, in trailers or, where there is nothing else, in headers.
const (
	grpcStatus  = "Grpc-Status"
	grpcMessage = "Grpc-Message"
)

// answerCode answers with a status and nothing else.
func answerCode(w *recorder, f Fault) {
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set(grpcStatus, strconv.Itoa(f.code))
	h.Set(grpcMessage, "meshtest: "+f.String())
	w.codes()
	w.WriteHeader(http.StatusOK)
}

// codes notes the code of an answer that is complete, where it is gRPC's.
func (r *recorder) codes() {
	if code, err := strconv.ParseUint(r.Header().Get(grpcStatus), 10, 32); err == nil {
		r.net.note(func() { r.event.call.Code, r.event.coded = codes.Code(code), true })
	}
}

// An rpcHandler is a gRPC server as an http.Handler, so that faults strike its calls as they strike others.
type rpcHandler struct{ server *grpc.Server }

// ServeHTTP implements http.Handler.
func (h rpcHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &rpcAnswer{ResponseWriter: w}
	h.server.ServeHTTP(a, r)
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the caller has gone: there is no answer, whatever the method has returned
	}
	if !a.begun {
		a.statusOnly()
	}
}

// An rpcAnswer sends a status that nothing preceded in the headers, as a server on its own connections
// does: callers tell it from an answer that broke off. grpc.Server.ServeHTTP has it in the trailers.
type rpcAnswer struct {
	http.ResponseWriter
	begun bool
}

func (a *rpcAnswer) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

func (a *rpcAnswer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

func (a *rpcAnswer) Flush() {
	if a.begun {
		_ = http.NewResponseController(a.ResponseWriter).Flush()
	}
}

// Unwrap is for http.ResponseController.
func (a *rpcAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// statusOnly makes headers of what the server meant for the trailers.
func (a *rpcAnswer) statusOnly() {
	h := a.Header()
	h.Del("Trailer")
	for k, v := range h {
		if name, ok := strings.CutPrefix(k, http.TrailerPrefix); ok {
			delete(h, k)
			h[http.CanonicalHeaderKey(name)] = v
		}
	}
	a.WriteHeader(http.StatusOK)
}

// answerEmpty makes a server that knows no service answer every call with an empty message: a valid one of
// every type.
func answerEmpty() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(anyMessage{}),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			for {
				switch err := s.RecvMsg(nil); {
				case errors.Is(err, io.EOF):
					return s.SendMsg(nil)
				case err != nil:
					return err
				}
			}
		}),
	}
}

// anyMessage reads every message as nothing and writes the empty one.
type anyMessage struct{}

func (anyMessage) Marshal(any) (mem.BufferSlice, error) { return nil, nil }
func (anyMessage) Unmarshal(mem.BufferSlice, any) error { return nil }
func (anyMessage) Name() string                         { return "proto" }
