package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/heddlemesh/mesh"
)

// forwarded lists the headers that the services pass on themselves, as the originals do; what belongs to
// tracing travels with the request's context.
var forwarded = []string{"end-user", "user-agent", "cookie", "authorization", "jwt"}

// A caller calls other services.
type caller struct{ client *http.Client }

// An answer is what came back; served is who says to have made it. A status without an answer is what a proxy
// would have said.
type answer struct {
	status int
	body   []byte
	served string
}

// call sends a GET for the received request.
func (c *caller) call(r *http.Request, url string, timeout time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return answer{}, err
	}
	for _, h := range forwarded {
		if v := r.Header.Values(h); len(v) > 0 {
			req.Header[http.CanonicalHeaderKey(h)] = v
		}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return answer{status: statusOf(req, err)}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return answer{resp.StatusCode, body, resp.Header.Get(served)}, err
}

// statusOf gives the status that a proxy would answer where a call got none, 0 where the caller gave up itself.
func statusOf(req *http.Request, err error) int {
	e, ok := errors.AsType[*mesh.Error](err)
	if !ok || req.Context().Err() != nil {
		return 0
	}
	return e.HTTPStatus()
}

// upstream gives the URL of a service by the environment of the originals: <NAME>_HOSTNAME,
// <NAME>_SERVICE_PORT, SERVICES_DOMAIN.
func upstream(name string) string {
	env := strings.ToUpper(name)
	host := envOr(env+"_HOSTNAME", name)
	if d := os.Getenv("SERVICES_DOMAIN"); d != "" {
		host += "." + d
	}
	return "http://" + net.JoinHostPort(host, envOr(env+"_SERVICE_PORT", "9080"))
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
