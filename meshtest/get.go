package meshtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// An Answer is the response to a call, with its body read.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	From   *Instance // who answered; nil where that was none of the test's instances
}

// Get makes a GET request on [Env.Client] and reads the answer, whatever its status. A call that gets no
// answer ends the test, with its story. Headers are written "name: value". For other methods, and for calls
// that are to fail, use Client.
func (e *Env) Get(url string, headers ...string) Answer {
	e.t.Helper()
	var r *record
	req, err := newRequest(context.WithValue(e.t.Context(), recordKey{}, &r), http.MethodGet, url, headers)
	if err != nil {
		e.t.Fatalf("meshtest: %v", err)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		e.t.Fatalf("%v\n%s", err, e.failure())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatalf("read the answer of %s: %v\n%s", url, err, e.failure())
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body), From: e.world.net.at(r.info.Endpoint)}
}

func newRequest(ctx context.Context, method, url string, headers []string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	for _, h := range headers {
		k, v, ok := strings.Cut(h, ":")
		if !ok {
			return nil, fmt.Errorf("header %q is not of the form name: value", h)
		}
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		if strings.EqualFold(k, "host") {
			req.Host = v
			continue
		}
		req.Header.Add(k, v)
	}
	return req, nil
}
