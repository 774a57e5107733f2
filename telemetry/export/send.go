package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/transport"
)

const (
	defaultTimeout = 10 * time.Second // of one try (OTEL_EXPORTER_OTLP_TIMEOUT)
	tries          = 4
	firstWait      = time.Second // doubled with each try
	maxReply       = 64 << 10
)

// A wire takes one batch to a collector.
type wire interface {
	// send gives an error that errors.Is errLater where another try may go better.
	send(ctx context.Context, batch []byte) error
	close() error
}

var errLater = errors.New("the collector asks to come again")

// A sender is an Exporter: encoder and wire, with a few tries.
type sender struct {
	name     string
	to       wire
	encode   func(resource []attribute.KeyValue, spans []Span) ([]byte, error)
	resource []attribute.KeyValue
	timeout  time.Duration
	report   func(string, error)
	failing  bool
}

// Export implements Exporter. Who is to hear of a failure is told once, until it is over.
func (s *sender) Export(ctx context.Context, spans []Span) error {
	err := s.export(transport.WithoutTrace(ctx), spans)
	if failing := err != nil; s.failing != failing {
		if s.failing = failing; s.report != nil {
			s.report(s.name, err)
		}
	}
	return err
}

func (s *sender) export(ctx context.Context, spans []Span) error {
	batch, err := s.encode(s.resource, spans)
	if err != nil {
		return err
	}
	wait := firstWait
	for n := 1; ; n++ {
		if err = s.try(ctx, batch); err == nil || !errors.Is(err, errLater) || n == tries {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
		wait *= 2
	}
}

func (s *sender) try(ctx context.Context, batch []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.to.send(ctx, batch)
}

// Close implements Exporter.
func (s *sender) Close() error { return s.to.close() }

// overHTTP posts batches.
type overHTTP struct {
	client  http.RoundTripper
	done    func()
	url     *url.URL
	media   string
	headers map[string]string
}

func (w *overHTTP) send(ctx context.Context, batch []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url.String(), bytes.NewReader(batch))
	if err != nil {
		return err
	}
	for k, v := range w.headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Content-Type", w.media)
	resp, err := w.client.RoundTrip(req)
	if err != nil {
		return errors.Join(errLater, err)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxReply) // so that the connection can be used again
	_ = resp.Body.Close()
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case slices.Contains([]int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, resp.StatusCode):
		err = errLater // OTLP, retryable response codes
	}
	return errors.Join(err, fmt.Errorf("answered %s", resp.Status))
}

func (w *overHTTP) close() error {
	w.done()
	return nil
}

// overGRPC calls TraceService.Export.
type overGRPC struct {
	conn    *grpc.ClientConn
	headers map[string]string
}

const exportMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

func (w *overGRPC) send(ctx context.Context, batch []byte) error {
	kv := make([]string, 0, 2*len(w.headers))
	for k, v := range w.headers {
		kv = append(kv, strings.ToLower(k), v)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, kv...)
	var reply []byte
	err := w.conn.Invoke(ctx, exportMethod, batch, &reply, grpc.ForceCodecV2(bytesCodec{}))
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss, codes.ResourceExhausted:
		err = errors.Join(errLater, err) // OTLP, retryable codes
	}
	return err
}

func (w *overGRPC) close() error { return w.conn.Close() }

// bytesCodec sends messages that are encoded already. It is called proto, since that is what they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
