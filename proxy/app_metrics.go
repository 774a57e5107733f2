package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/telemetry"
)

const (
	// appScrapeTimeout bounds the wait for the application's metrics, appMetricsBytes what is taken of them.
	appScrapeTimeout = 5 * time.Second
	appMetricsBytes  = 16 << 20
)

// An appMetrics is the application's own metrics page (Istio, metrics merging). It is safe for concurrent use.
type appMetrics struct {
	url    string
	client http.Client
	failed atomic.Uint64
	ours   func() []telemetry.Family
}

func newAppMetrics(url string, ours func() []telemetry.Family) *appMetrics {
	return &appMetrics{url: url, ours: ours, client: http.Client{Timeout: appScrapeTimeout, Transport: &http.Transport{
		DisableCompression: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: appIdleTimeout}}}
}

func (a *appMetrics) close() { a.client.CloseIdleConnections() }

// scrape gives the application's metrics, but for those of names that are the mesh's: one name is described once.
func (a *appMetrics) scrape(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("scrape the application: %s", resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, appMetricsBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > appMetricsBytes:
		return nil, errors.New("scrape the application: more than 16 MiB")
	}
	taken := make(map[string]bool)
	for _, f := range a.ours() {
		taken[f.Name] = true
	}
	return without(text, taken), nil
}

// without gives a text of metrics without the families of those names, and without what ends an OpenMetrics text.
func without(text []byte, taken map[string]bool) []byte {
	out := make([]byte, 0, len(text)+1)
	for line := range bytes.Lines(text) {
		if name := familyOf(string(line)); name == "# EOF" || taken[name] || taken[base(name)] {
			continue
		}
		out = append(out, line...)
	}
	if n := len(out); n > 0 && out[n-1] != '\n' {
		out = append(out, '\n')
	}
	return out
}

// familyOf gives the name that a line is about, "" for a comment and an empty line.
func familyOf(line string) string {
	line = strings.TrimSpace(line)
	if line == "# EOF" {
		return line
	}
	for _, kind := range []string{"# HELP ", "# TYPE "} {
		if rest, ok := strings.CutPrefix(line, kind); ok {
			name, _, _ := strings.Cut(strings.TrimLeft(rest, " \t"), " ")
			return name
		}
	}
	if strings.HasPrefix(line, "#") {
		return ""
	}
	if i := strings.IndexAny(line, "{ \t"); i >= 0 {
		line = line[:i]
	}
	return line
}

// base is the name of the histogram that a line is of.
func base(name string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if b, ok := strings.CutSuffix(name, suffix); ok {
			return b
		}
	}
	return name
}
