package conformance

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// GRPC drives the mesh from grpc-go. The call of a row is a unary RPC: the path is its method, the headers are
// its metadata, the body is its message.
type GRPC struct{}

// Name implements Driver.
func (GRPC) Name() string { return "grpc" }

// Adapt implements Driver. Only what an RPC can say remains of the table, and ports of protocol HTTP become
// ports of protocol GRPC: to both the same rules apply.
func (d GRPC) Adapt(c Case) (Case, string) {
	if why := c.Except[d.Name()]; why != "" {
		return c, why
	}
	if why := notAnRPC(&c); why != "" {
		return c, why
	}
	c.Repeat = min(c.Repeat, enough)
	c.Config = http1Port.ReplaceAllString(c.Config, "protocol: GRPC")
	_, method := target(c.Request.URL)
	if canonical, ok := call.CanonicalPath(method); ok && canonical != method {
		c.Deviation = "grpc-go sends a method as it is, so that what would have to be sent in another spelling is refused"
		c.Want = Result{Flag: "DPE", Status: http.StatusBadRequest}
	}
	c.answered(&c.Want)
	c.answered(&c.Then)
	return c, ""
}

// answered makes what an RPC is told of what a request is.
func (c *Case) answered(w *Result) {
	switch {
	case w.Flag == "UT":
		w.Status = http.StatusGatewayTimeout // an RPC has no answer before it has all of it
		fallthrough
	case w.Flag != "" && w.GRPC == 0:
		w.GRPC = int(rejectedWith[w.Flag])
	case w.Details != "" && !c.rpc():
		w.GRPC, w.Status = int(call.GRPCCode(max(w.Status, http.StatusOK))), http.StatusOK
		fallthrough
	case w.Details != "":
		w.Answer = maps.Clone(w.Answer)
		for _, of := range []string{"Content-Type", "Content-Length", "Grpc-Status", "Grpc-Message"} { // a body that is none, and the status itself
			delete(w.Answer, of)
		}
	}
}

// enough calls tell shares apart; an RPC costs more than a request here.
const enough = 2_500

var http1Port = regexp.MustCompile(`protocol: HTTP\b`)

// rejectedWith is the code in the place of the HTTP status of a rejection: Envoy's Grpc::Utility::httpToGrpcStatus.
var rejectedWith = map[string]codes.Code{
	"NR":  codes.Unimplemented, // 404
	"NC":  codes.Unavailable,   // 503, as are those below
	"UH":  codes.Unavailable,
	"UF":  codes.Unavailable,
	"UR":  codes.Unavailable,
	"UC":  codes.Unavailable,
	"UO":  codes.Unavailable,
	"RL":  codes.Unavailable,      // 429
	"DPE": codes.Internal,         // 400
	"UT":  codes.DeadlineExceeded, // of grpc-go's own words
	"DC":  codes.DeadlineExceeded,
}

// notAnRPC says why no RPC is what the row is about, "" where one is.
func notAnRPC(c *Case) string {
	r := &c.Request
	authority, method := target(r.URL)
	if r.Method != "" && r.Method != http.MethodPost {
		return "the method of an RPC is POST"
	}
	switch {
	case authority == "":
		return "the scheme of an RPC's URL is http"
	case strings.Contains(method, "?"):
		return "an RPC has no query"
	case method == "":
		return "the path of an RPC is not empty"
	case r.Stream:
		return "the message of an RPC is in memory and can always be sent again"
	case c.Want.Proto == "HTTP/1.1":
		return "gRPC is HTTP/2"
	}
	if r.Host != "" && hostOf(r.Host) != hostOf(authority) {
		return "the host of an RPC is its channel's: grpc.CallAuthority is for servers to read"
	}
	for _, b := range c.Upstream.Script {
		if b.Status != 0 {
			return "an RPC is not answered by an HTTP status"
		}
	}
	for name, values := range r.Header {
		if fixed, ok := fixedHeaders[name]; ok && !slices.Equal(values, []string{fixed}) {
			return "grpc-go sets " + name + " itself"
		}
	}
	return ""
}

// fixedHeaders are those that programs have no say in, with what grpc-go makes of them; "" where that is its own.
var fixedHeaders = map[string]string{"Content-Type": "application/grpc", "Te": "trailers", "User-Agent": ""}

func hostOf(authority string) string {
	host, _, _ := call.SplitAuthority(authority)
	return host
}

// Do implements Driver.
func (GRPC) Do(t testing.TB, c *Case, b *Bench) []Result {
	t.Helper()
	authority, method := target(c.Request.URL)
	// Credentials, because calls to hosts outside the mesh fail without. Each attempt of a call makes its own
	// connection or fails: what grpc-go's back-off makes besides would use up the script.
	opts := append(grpcmesh.DialOptions(b.Mesh, grpcmesh.WithCredentials(insecure.NewCredentials())),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Hour, MaxDelay: time.Hour}, MinConnectTimeout: hung}))
	cc, err := grpc.NewClient(grpcmesh.Target(authority), opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()

	var of []grpc.CallOption
	if c.Request.Host != "" {
		of = append(of, grpc.CallAuthority(c.Request.Host))
	}
	message := []byte(c.Request.Body)
	results := make([]Result, max(c.Repeat, 1))
	for i := range results {
		md := metadata.MD{}
		for name, values := range c.request(i).Header {
			if _, fixed := fixedHeaders[name]; !fixed {
				md.Append(name, values...)
			}
		}
		var info mesh.CallInfo
		ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), md), c.patience())
		b.Net.Begin()
		var reply []byte
		began := time.Now()
		var header, trailer metadata.MD
		err := cc.Invoke(mesh.Capture(ctx, &info), method, message, &reply, append(of[:len(of):len(of)], grpc.Header(&header), grpc.Trailer(&trailer))...)
		if err != nil { // the answer is all in one
			header = metadata.Join(header, trailer)
		}
		took := time.Since(began)
		cancel()
		c.settle()
		results[i] = joined(joinedBy(c, b.Net.Seen(), Result{Took: took, Answer: headerOf(header)}), &info, err)
		results[i].Cookie = cookieOf(header.Get("set-cookie"))
	}
	return results
}

// joined gives the upstreams' side of an RPC with the caller's.
func joined(r Result, info *mesh.CallInfo, err error) Result {
	tell(&r, info)
	r.Status, r.GRPC, r.Flag = http.StatusOK, int(grpcstatus.Code(err)), "-"
	const frame = 5 // a message's length goes before it
	r.Body = r.Body[min(len(r.Body), frame):]
	for i := range r.Copies {
		r.Copies[i].Body = r.Copies[i].Body[min(len(r.Copies[i].Body), frame):]
	}
	var rejected *mesh.Error
	switch {
	case errors.As(err, &rejected):
		r.Status, r.Flag = rejected.HTTPStatus(), rejected.Flag()
		r.Endpoint = "" // some upstream may have seen the call, none answered
	case r.Details != "":
		r.Text = grpcstatus.Convert(err).Message()
	case err != nil && r.Endpoint == "":
		r.Flag = "neither an error of the mesh nor an answer: " + err.Error()
	}
	return r
}

// headerOf gives metadata as HTTP has it.
func headerOf(md metadata.MD) http.Header {
	h := make(http.Header, len(md))
	for name, values := range md {
		h[http.CanonicalHeaderKey(name)] = values
	}
	return h
}

// raw is a codec for messages that are bytes already.
type raw struct{}

func (raw) Name() string { return "" } // the content-type is application/grpc and no more

func (raw) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, errors.New("marshal: not bytes")
	}
	return b, nil
}

func (raw) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return errors.New("unmarshal: not bytes")
	}
	*b = append((*b)[:0], data...)
	return nil
}
