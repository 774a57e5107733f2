package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A span is what the check looks at of one (opentelemetry-proto v1, trace.proto).
type span struct {
	service          string // service.name of who has sent it: "ratings.default"
	trace, id, above string // in hexadecimal; above is the parent, "" for none
	name             string
	kind             uint64 // spanInternal, …
	tags             map[string]string
}

// The kinds of spans that meshes make.
const spanInternal, spanServer, spanClient = 1, 2, 3

// A collector takes spans by OTLP, over gRPC and over HTTP.
type collector struct {
	rpcs, requests net.Listener
	stop           func()

	mu    sync.Mutex // guards what follows
	spans []span
}

// openCollector listens on two free ports of this machine.
func openCollector() (*collector, error) {
	c := new(collector)
	var err error
	if c.rpcs, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if c.requests, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, errors.Join(err, c.rpcs.Close())
	}
	rpcs := grpc.NewServer(grpc.UnknownServiceHandler(c.rpc))
	requests := &http.Server{Handler: http.HandlerFunc(c.request), ReadHeaderTimeout: 5 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = rpcs.Serve(c.rpcs) })
	serving.Go(func() { _ = requests.Serve(c.requests) })
	c.stop = func() {
		rpcs.Stop()
		_ = requests.Close()
		serving.Wait()
	}
	return c, nil
}

// rpc is TraceService.Export. A message of no fields keeps all that it is sent.
func (c *collector) rpc(_ any, s grpc.ServerStream) error {
	var m emptypb.Empty
	if err := s.RecvMsg(&m); err != nil {
		return err
	}
	if method, _ := grpc.MethodFromServerStream(s); method != "/opentelemetry.proto.collector.trace.v1.TraceService/Export" {
		return errors.New("not the method of a collector: " + method)
	}
	if err := c.take(m.ProtoReflect().GetUnknown()); err != nil {
		return err
	}
	return s.SendMsg(new(emptypb.Empty))
}

func (c *collector) request(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err == nil && (r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf") {
		err = fmt.Errorf("not what a collector is sent: %s of %s", r.URL.Path, r.Header.Get("Content-Type"))
	}
	if err == nil {
		err = c.take(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// of gives the spans of a trace, as far as they have come.
func (c *collector) of(trace string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []span
	for _, s := range c.spans {
		if s.trace == trace {
			all = append(all, s)
		}
	}
	return all
}

// tagged gives the spans that have a tag of the value.
func (c *collector) tagged(name, value string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []span
	for _, s := range c.spans {
		if s.tags[name] == value {
			all = append(all, s)
		}
	}
	return all
}

// take reads an ExportTraceServiceRequest.
func (c *collector) take(request []byte) error {
	var all []span
	err := eachField(request, 1, func(resourceSpans []byte) error {
		about := make(map[string]string)
		err := eachField(resourceSpans, 1, func(resource []byte) error {
			return eachField(resource, 1, func(b []byte) error { return keyValue(b, about) })
		})
		return errors.Join(err, eachField(resourceSpans, 2, func(scopeSpans []byte) error {
			return eachField(scopeSpans, 2, func(b []byte) error {
				s, err := readSpan(b)
				s.service = about["service.name"]
				all = append(all, s)
				return err
			})
		}))
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans = append(c.spans, all...)
	return err
}

func readSpan(b []byte) (span, error) {
	s := span{tags: make(map[string]string)}
	err := fields(b, func(n protowire.Number, text []byte, number uint64) error {
		switch n {
		case 1:
			s.trace = hex.EncodeToString(text)
		case 2:
			s.id = hex.EncodeToString(text)
		case 4:
			s.above = hex.EncodeToString(text)
		case 5:
			s.name = string(text)
		case 6:
			s.kind = number
		case 9:
			return keyValue(text, s.tags)
		}
		return nil
	})
	return s, err
}

// keyValue adds an attribute to others, if it is a text.
func keyValue(b []byte, to map[string]string) error {
	var key, value string
	err := fields(b, func(n protowire.Number, text []byte, _ uint64) error {
		switch n {
		case 1:
			key = string(text)
		case 2:
			return eachField(text, 1, func(v []byte) error { value = string(v); return nil })
		}
		return nil
	})
	to[key] = value
	return err
}

// eachField hands over each field of a number that holds bytes.
func eachField(message []byte, number protowire.Number, do func([]byte) error) error {
	return fields(message, func(n protowire.Number, text []byte, _ uint64) error {
		if n != number {
			return nil
		}
		return do(text)
	})
}

// fields reads a message.
func fields(b []byte, do func(n protowire.Number, text []byte, number uint64) error) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		var text []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			text, size = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(b)
		default:
			size = protowire.ConsumeFieldValue(n, kind, b)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		if err := do(n, text, number); err != nil {
			return err
		}
	}
	return nil
}
