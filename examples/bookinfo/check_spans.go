package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
)

// spansFile says where spans go while a scenario looks at them.
const spansFile = "spans.yaml"

// collected is the document that sends spans to a collector, none of them by chance.
func (c *check) collected(by *collector, how string) string {
	_, rpcs, _ := net.SplitHostPort(by.rpcs.Addr().String())
	_, requests, _ := net.SplitHostPort(by.requests.Addr().String())
	provider := "port: 4317"
	if how == overHTTP {
		provider = "port: 4318, http: {path: /v1/traces}"
	}
	c.writes++
	return fmt.Sprintf(`# Written by bookinfo -check, number %d: spans by %s.
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: collector}
spec:
  hosts: [collector.bookinfo.test]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports:
  - {number: 4317, name: grpc, protocol: GRPC}
  - {number: 4318, name: http, protocol: HTTP}
  endpoints:
  - {address: 127.0.0.1, ports: {grpc: %s, http: %s}}
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec:
  extensionProviders:
  - name: collector
    opentelemetry: {service: collector.bookinfo.test, %s}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: spans, namespace: istio-system}
spec:
  tracing:
  - providers: [{name: collector}]
    randomSamplingPercentage: 0
`, c.writes, how, rpcs, requests, provider)
}

// The ways that spans go.
const overGRPC, overHTTP = "OTLP over gRPC", "OTLP over HTTP"

// spanned: a page is one trace, from the browser's request to ratings, whatever the programs are written in. Each request that is received
// is a span under the attempt of who has sent it. Who forces a trace has one, or names his own; nobody else has.
func spanned(ctx context.Context, c *check) (string, error) {
	by, err := openCollector()
	if err != nil {
		return "", err
	}
	defer by.stop()
	if err := c.route(ctx, share{"v2", 50}, share{"v3", 50}); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	pages := 0
	for _, how := range []string{overGRPC, overHTTP} {
		if err := c.apply(ctx, spansFile, c.collected(by, how)); err != nil {
			return "", err
		}
		for n := range 6 {
			if err := c.spannedPage(ctx, browser, by, n%2 == 1); err != nil {
				return "", errors.Join(fmt.Errorf("%s: %w", how, err), c.withdraw(context.WithoutCancel(ctx), spansFile))
			}
			pages++
		}
	}
	if err := c.withdraw(ctx, spansFile); err != nil {
		return "", err
	}
	c.skipLanguages()
	return fmt.Sprintf("%d pages, by gRPC and by HTTP: one trace of ten spans each through %s; one without, that nobody asked for", pages, strings.Join(c.languages(), ", ")), nil
}

// spannedPage opens a page of which nobody wants a trace, and one with a trace that is the browser's own or that it forces.
func (c *check) spannedPage(ctx context.Context, browser *http.Client, by *collector, own bool) error {
	open := func(header http.Header) (id string, err error) {
		id = requestID()
		header.Set("x-request-id", id)
		status, _, err := fetchAs(ctx, browser, c.url("/productpage"), header)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("the page: status %d", status)
		}
		return id, err
	}
	untraced, err := open(make(http.Header))
	if err != nil {
		return err
	}
	header, parent := make(http.Header), ""
	if own {
		var b [8]byte
		_, _ = rand.Read(b[:])
		parent = hex.EncodeToString(b[:])
		header.Set("traceparent", fmt.Sprintf("00-%s%s-%[2]s-01", parent, parent))
	} else {
		header.Set("x-client-trace-id", requestID())
	}
	id, err := open(header)
	if err != nil {
		return err
	}
	return until(ctx, func() error {
		root := by.tagged(requestIDTag, id)
		if len(root) == 0 {
			return fmt.Errorf("expected spans of request %s, found none", id)
		}
		if err := judgeSpans(by.of(root[0].trace), parent); err != nil {
			return err
		}
		if wrong := by.tagged(requestIDTag, untraced); len(wrong) > 0 {
			return fmt.Errorf("expected no spans of request %s, found %s of %s", untraced, wrong[0].name, wrong[0].service)
		}
		return nil
	})
}

// requestIDTag is the tag of a span that names the request (Envoy).
const requestIDTag = "guid:x-request-id"

// callersOf says who calls a service.
var callersOf = map[string]string{"details.default": "productpage.default", "reviews.default": "productpage.default", "ratings.default": "reviews.default"}

// judgeSpans holds the spans of a page against what it takes: productpage is asked, asks details and reviews, and reviews asks
// ratings. A call is a span, its attempt one under it, and what the callee receives one under that. above is the browser's span,
// "" where it has none.
func judgeSpans(all []span, above string) error {
	byID := make(map[string]span)
	for _, s := range all {
		byID[s.id] = s
	}
	var received []string
	for _, s := range all {
		if s.kind != spanServer {
			continue
		}
		received = append(received, s.service)
		caller, called := callersOf[s.service]
		if !called {
			if s.above != above {
				return fmt.Errorf("expected the span of %s under %q, found it under %q", s.service, above, s.above)
			}
			continue
		}
		attempt := byID[s.above]
		call := byID[attempt.above]
		request := byID[call.above]
		if attempt.kind != spanClient || call.kind != spanInternal || request.kind != spanServer ||
			attempt.service != caller || call.service != caller || request.service != caller {
			return fmt.Errorf("expected the span of %s under an attempt, a call and a request of %s, found it under %v, %v, %v", s.service, caller, attempt, call, request)
		}
	}
	slices.Sort(received)
	if want := []string{"details.default", "productpage.default", "ratings.default", "reviews.default"}; !slices.Equal(received, want) {
		return fmt.Errorf("expected requests received by %v, found %v", want, received)
	}
	if len(all) != 10 || len(byID) != 10 {
		return fmt.Errorf("expected ten spans, found %d: %v", len(all), all)
	}
	return nil
}
