package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/heddlemesh/mesh/internal/cli"
)

// A graphEdge is one as `heddle graph -o json` writes it.
type graphEdge struct {
	From, To, Service string
	Requests, Failed  float64
	Secured           bool `json:"mutualTLS"`
}

// graphed: `heddle graph` over all processes finds who calls whom for a page, with all requests by mutual TLS, and nobody else.
func graphed(ctx context.Context, c *check) (string, error) {
	if err := c.route(ctx, share{"v1", 34}, share{"v2", 33}, share{"v3", 33}); err != nil {
		return "", err
	}
	before, err := c.graph() // scenarios before this one have made calls of their own
	if err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	var known []string
	err = until(ctx, func() error {
		if _, _, err := fetchPage(ctx, browser, c.url("/productpage")); err != nil {
			return err
		}
		edges, err := c.graph()
		if err == nil {
			known, err = judgeGraph(since(before, edges))
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return strings.Join(known, ", "), nil
}

// graph asks all instances.
func (c *check) graph() ([]graphEdge, error) {
	args := []string{"graph", "-o", "json"}
	for _, i := range c.app.instances {
		args = append(args, "--admin", strings.TrimPrefix(i.admin(), "http://"))
	}
	var out, said bytes.Buffer
	if code := cli.Main(args, strings.NewReader(""), &out, &said); code != 0 {
		return nil, fmt.Errorf("heddle graph: exit code %d: %s", code, said.String())
	}
	var edges []graphEdge
	return edges, json.Unmarshal(out.Bytes(), &edges)
}

// since gives the edges with the requests that were made since.
func since(before, now []graphEdge) []graphEdge {
	var grown []graphEdge
	for _, e := range now {
		for _, b := range before {
			if b.From == e.From && b.To == e.To && b.Service == e.Service && b.Secured == e.Secured {
				e.Requests -= b.Requests
			}
		}
		if e.Requests > 0 {
			grown = append(grown, e)
		}
	}
	return grown
}

// judgeGraph holds edges against those of the application; who has no endpoint yet, or is asked from outside, is no workload of it.
func judgeGraph(edges []graphEdge) ([]string, error) {
	want := []string{
		"productpage-v1.default → details-v1.default", "productpage-v1.default → reviews-v1.default", "productpage-v1.default → reviews-v2.default",
		"productpage-v1.default → reviews-v3.default", "reviews-v2.default → ratings-v1.default", "reviews-v3.default → ratings-v1.default",
	}
	var known []string
	for _, e := range edges {
		if !strings.HasSuffix(e.From, ".default") || !strings.HasSuffix(e.To, ".default") {
			continue
		}
		name := e.From + " → " + e.To
		if !e.Secured {
			return nil, fmt.Errorf("expected requests by mutual TLS, found %+v", e)
		}
		known = append(known, name)
	}
	slices.Sort(known)
	if !slices.Equal(known, want) {
		return nil, fmt.Errorf("expected edges %s, found %s", strings.Join(want, ", "), strings.Join(known, ", "))
	}
	return known, nil
}
