package external

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A Sender makes one call to the service that the request's URL names, and says authority for its Host.
type Sender func(req *http.Request, authority string) (*http.Response, error)

// NewHTTP gives who asks the provider's service as Envoy's ext_authz filter does by HTTP: by a request of the method, path,
// query and host of the one that is asked about, with Authorization and the fields that the provider includes. 200 allows,
// 5xx is a failure, everything else denies.
func NewHTTP(p *Provider, send Sender) Authorizer {
	return &overHTTP{p, send, net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port)))}
}

type overHTTP struct {
	provider *Provider
	send     Sender
	address  string
}

// Authorize implements Authorizer.
func (a *overHTTP) Authorize(ctx context.Context, c *Check) (Answer, error) {
	req, err := a.request(ctx, c)
	if err != nil {
		return Answer{}, fmt.Errorf("ask %s: %w", a.address, err)
	}
	resp, err := a.send(req, c.Host)
	if err != nil {
		return Answer{}, fmt.Errorf("ask %s: %w", a.address, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 500:
		return Answer{}, fmt.Errorf("ask %s: answered with %d", a.address, resp.StatusCode)
	case resp.StatusCode == http.StatusOK:
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // the connection is used again where that is all
		return a.allowed(resp.Header), nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	if err != nil {
		return Answer{}, fmt.Errorf("ask %s: read the answer: %w", a.address, err)
	}
	return a.denied(resp, string(body)), nil
}

// alwaysIncluded is sent whatever the provider includes (Envoy).
const alwaysIncluded = "Authorization"

func (a *overHTTP) request(ctx context.Context, c *Check) (*http.Request, error) {
	path := a.provider.PathPrefix + c.Path
	u := &url.URL{Scheme: "http", Host: a.address, RawQuery: c.Query}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawPath = decoded, path
	if u.EscapedPath() != path {
		u.Opaque = path
		if strings.HasPrefix(path, "//") {
			u.Opaque = "//" + a.address + path
		}
	}
	req := (&http.Request{Method: c.Method, URL: u, Header: make(http.Header), Body: http.NoBody,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if len(c.Body) > 0 {
		body := c.Body
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(body))
	}
	req.Header["User-Agent"] = nil // net/http would write its own
	for name, values := range c.Header {
		if name == alwaysIncluded || listed(a.provider.Include, name) && !Protected(name) {
			req.Header[name] = values
		}
	}
	for _, f := range a.provider.Additional {
		req.Header.Set(f.Name, f.Value)
	}
	if c.WithBody {
		req.Header.Set(PartialBody, strconv.FormatBool(c.Partial))
	}
	req.Header.Set(TrailHeader, c.Trail)
	return req, nil
}

// toRemove names fields that the program is not to see, separated by commas (Envoy).
const toRemove = "X-Envoy-Auth-Headers-To-Remove"

func (a *overHTTP) allowed(h http.Header) Answer {
	answer := Answer{Allowed: true, Request: edits(h, a.provider.ToUpstream), Response: edits(h, a.provider.ToDownstream)}
	for _, list := range h[toRemove] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.Trim(name, " \t"); name != "" {
				answer.Request = append(answer.Request, Edit{Name: name, Action: Remove})
			}
		}
	}
	return answer
}

func (a *overHTTP) denied(resp *http.Response, body string) Answer {
	list := a.provider.OnDeny
	if len(list) == 0 {
		list = []string{"*"}
	} else {
		list = append(slices.Clone(list), "www-authenticate", "location")
	}
	return Answer{Status: resp.StatusCode, Body: body, Denied: edits(resp.Header, list)}
}

// edits gives the fields whose names are listed, to be set.
func edits(h http.Header, list []string) []Edit {
	var made []Edit
	for name, values := range h {
		if name == toRemove || Protected(name) || !listed(list, name) {
			continue
		}
		for i, v := range values {
			action := Set
			if i > 0 {
				action = Append
			}
			made = append(made, Edit{name, v, action})
		}
	}
	return made
}
