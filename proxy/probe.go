package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

const (
	probeBytes     = 10 << 10 // of an answer, which the kubelet shows people
	probeRedirects = 10
)

// A prober makes one probe, once at a time: who asks while it is under way is told what that finds. So nobody can have the
// sidecar ask the application more often than it answers. It is safe for concurrent use.
type prober struct {
	probe Probe

	mu      sync.Mutex // guards what follows
	running *finding
}

// A finding is what a probe has found, once done is closed.
type finding struct {
	done   chan struct{}
	status int
	body   []byte
}

// find makes the probe at app, or waits for the one under way. agent is what the request says of who asks.
func (p *prober) find(ctx context.Context, app *application, agent string) (*finding, error) {
	p.mu.Lock()
	f := p.running
	mine := f == nil
	if mine {
		f = &finding{done: make(chan struct{})}
		p.running = f
	}
	p.mu.Unlock()
	if mine {
		// Others may wait for it: it does not end with who asked first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.probe.timeout())
		f.status, f.body = p.make(ctx, app, agent)
		cancel()
		p.mu.Lock()
		p.running = nil
		p.mu.Unlock()
		close(f.done)
	}
	select {
	case <-f.done:
		return f, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// make asks the application. What keeps it from answering is a 500 in the kubelet's eyes.
func (p *prober) make(ctx context.Context, app *application, agent string) (status int, body []byte) {
	var err error
	switch {
	case p.probe.HTTPGet != nil:
		status, body, err = p.probe.HTTPGet.ask(ctx, app, agent)
	case p.probe.TCPSocket != nil:
		status, err = http.StatusOK, connects(ctx, app)
	default:
		status, err = http.StatusOK, p.probe.GRPC.ask(ctx, app)
	}
	if err != nil {
		return http.StatusInternalServerError, []byte("probe " + app.address + ": " + err.Error() + "\n")
	}
	return status, body
}

func connects(ctx context.Context, app *application) error {
	conn, err := app.dial(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// ask gets the page. Redirects within the application are followed; one that leads elsewhere is a success, as it is for the kubelet, and not
// followed.
func (h *HTTPProbe) ask(ctx context.Context, app *application, agent string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url(app.address), nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Accept", "*/*")
	for _, f := range h.Headers {
		if strings.EqualFold(f.Name, "Host") {
			req.Host = f.Value
		} else {
			req.Header.Set(f.Name, f.Value)
		}
	}
	through := app.http1.Clone()
	through.DisableKeepAlives = true
	through.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the kubelet does not verify either, and it is this machine
	client := http.Client{Transport: through, CheckRedirect: sameServer}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, probeBytes))
	if err != nil {
		return 0, nil, err
	}
	status := resp.StatusCode
	if status >= 300 && status < 400 {
		status = http.StatusOK
	}
	return status, body, nil
}

// sameServer is http.Client.CheckRedirect.
func sameServer(next *http.Request, via []*http.Request) error {
	if !sameOrigin(next.URL, via[0].URL) {
		return http.ErrUseLastResponse
	}
	if len(via) >= probeRedirects {
		return fmt.Errorf("stopped after %d redirects", probeRedirects)
	}
	return nil
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

// ask calls grpc.health.v1.Health/Check (the gRPC health checking protocol) over HTTP/2 without TLS: one message of one string there,
// one of one enumeration back.
func (g *GRPCProbe) ask(ctx context.Context, app *application) error {
	through := app.http2.Clone()
	defer through.CloseIdleConnections()
	message := []byte{}
	if g.Service != "" {
		message = append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(g.Service))), g.Service...) // field 1, a string
	}
	framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+app.address+"/grpc.health.v1.Health/Check", bytes.NewReader(framed))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := through.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, probeBytes))
	if err != nil {
		return err
	}
	code := resp.Trailer.Get("Grpc-Status")
	if code == "" {
		code = resp.Header.Get("Grpc-Status")
	}
	if resp.StatusCode != http.StatusOK || code != "0" {
		return fmt.Errorf("status %d, gRPC status %q", resp.StatusCode, code)
	}
	return serving(body)
}

// serving reads a HealthCheckResponse whose status, field 1, is 1.
func serving(framed []byte) error {
	if len(framed) < 5 || framed[0] != 0 || int(binary.BigEndian.Uint32(framed[1:])) != len(framed)-5 {
		return errors.New("malformed answer")
	}
	if message := framed[5:]; !bytes.Equal(message, []byte{1 << 3, 1}) {
		return errors.New("not SERVING")
	}
	return nil
}
