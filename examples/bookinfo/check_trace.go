package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// A traceRequest is one page asked for with a traceparent.
type traceRequest struct {
	traceparent string
	requestID   string // that was sent, "" where the mesh has to make one
}

// A traceHit is what an instance has logged of one.
type traceHit struct {
	service, instance      string
	traceparent, requestID string
}

var loggedTrace = regexp.MustCompile(` x-request-id=(\S*) traceparent=(\S*)$`)

// traced: what a browser says of its trace arrives in every program, whatever it is written in. Who sends no
// x-request-id is given one, the same in all services; one that was sent stays.
func traced(ctx context.Context, c *check) (string, error) {
	const batch, most = 8, 160
	if err := c.route(ctx, share{"v2", 50}, share{"v3", 50}); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	var sent []traceRequest
	var missed []string
	for len(sent) < most {
		for n := range batch {
			r := newTraceRequest(n%2 == 1)
			if err := c.sendTraced(ctx, browser, r); err != nil {
				return "", err
			}
			sent = append(sent, r)
		}
		err := until(ctx, func() error { // the lines are on their way to us
			hits := c.traceHits()
			missed = unvisited(c.app.list(), hits)
			return judgeTraces(sent, hits)
		})
		if err != nil {
			return "", err
		}
		if len(missed) == 0 {
			break
		}
		c.notes.progress("%d requests, not yet at %s", len(sent), strings.Join(missed, ", "))
	}
	if len(missed) > 0 {
		return "", fmt.Errorf("expected %d requests to reach every instance, found none at %s", len(sent), strings.Join(missed, ", "))
	}
	c.skipLanguages()
	return fmt.Sprintf("%d pages: one traceparent and one x-request-id, made where there was none, in %s", len(sent), strings.Join(c.languages(), ", ")), nil
}

func newTraceRequest(withID bool) traceRequest {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it never fails
	r := traceRequest{traceparent: "00-" + hex.EncodeToString(b[:16]) + "-" + hex.EncodeToString(b[16:24]) + "-01"}
	if withID {
		r.requestID = "check-" + hex.EncodeToString(b[24:])
	}
	return r
}

func (c *check) sendTraced(ctx context.Context, browser *http.Client, r traceRequest) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url("/productpage"), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("traceparent", r.traceparent)
	if r.requestID != "" {
		req.Header.Set("x-request-id", r.requestID)
	}
	code, _, err := send(browser, req)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("the page: status %d", code)
	}
	return err
}

// traceHits reads the logs of all instances: every program writes the headers of each request.
func (c *check) traceHits() map[string][]traceHit {
	hits := make(map[string][]traceHit)
	for _, i := range c.app.list() {
		for _, line := range c.app.log(i.name) {
			if at := loggedTrace.FindStringSubmatch(line); at != nil {
				id := traceID(at[2])
				hits[id] = append(hits[id], traceHit{service: i.service, instance: i.name, requestID: at[1], traceparent: at[2]})
			}
		}
	}
	delete(hits, "")
	return hits
}

// traceID is the part of a traceparent that stays the same in all services.
func traceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 {
		return ""
	}
	return parts[1]
}

// judgeTraces holds what was logged against what was sent.
func judgeTraces(sent []traceRequest, hits map[string][]traceHit) error {
	made := make(map[string]bool)
	for _, r := range sent {
		id, err := judgeTrace(r, hits[traceID(r.traceparent)])
		if err != nil {
			return err
		}
		if made[id] {
			return fmt.Errorf("expected an x-request-id for each request, found %s twice", id)
		}
		made[id] = true
	}
	return nil
}

// judgeTrace looks at one request and gives its x-request-id. A mesh that takes part in the trace would change
// the parent in it, but neither the trace nor whether it is sampled.
func judgeTrace(r traceRequest, hits []traceHit) (string, error) {
	services, ids := make(map[string]bool), make(map[string]bool)
	for _, h := range hits {
		if !strings.HasPrefix(h.traceparent, "00-") || !strings.HasSuffix(h.traceparent, "-01") {
			return "", fmt.Errorf("%s: expected traceparent %s, found %s", h.instance, r.traceparent, h.traceparent)
		}
		services[h.service], ids[h.requestID] = true, true
	}
	for _, s := range []string{"productpage", "details", "reviews", "ratings"} {
		if !services[s] {
			return "", fmt.Errorf("expected traceparent %s at %s, found it only at %v", r.traceparent, s, slices.Sorted(maps.Keys(services)))
		}
	}
	all := slices.Sorted(maps.Keys(ids))
	switch {
	case len(all) != 1 || all[0] == "":
		return "", fmt.Errorf("expected one x-request-id in all services of one request, found %q", all)
	case r.requestID != "" && all[0] != r.requestID:
		return "", fmt.Errorf("expected x-request-id %s to stay, found %s", r.requestID, all[0])
	}
	return all[0], nil
}

// unvisited lists instances without a hit, but for reviews v1, which the rules leave out.
func unvisited(all []instanceInfo, hits map[string][]traceHit) []string {
	seen := make(map[string]bool)
	for _, list := range hits {
		for _, h := range list {
			seen[h.instance] = true
		}
	}
	var missed []string
	for _, i := range all {
		if !seen[i.name] && i.name != "reviews-v1" {
			missed = append(missed, i.name)
		}
	}
	return missed
}

// languages lists what programs are written in.
func (c *check) languages() []string {
	seen := make(map[string]bool)
	for _, i := range c.app.list() {
		name, _, _ := strings.Cut(i.runtime, " ")
		seen[name] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// skipLanguages says which programs are not there to see anything, and why.
func (c *check) skipLanguages() {
	have := c.languages()
	for _, l := range []*language{python, node, ruby, java} {
		if slices.Contains(have, l.name) {
			continue
		}
		why := errors.New("-polyglot=off")
		for _, note := range c.app.notes {
			if strings.HasPrefix(note, "No "+l.name+" ") {
				why = errors.New(strings.TrimSuffix(note, "."))
			}
		}
		c.skip("traceparent reaches "+l.name, why.Error())
	}
}
