package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// A promServer is a Prometheus of our own, which scrapes a running application.
type promServer struct {
	base   string
	client *http.Client
}

// deployed is where what ships for Prometheus and Grafana stands.
const deployed = "../../deploy/"

// scrapeInterval is short, so that the run is.
const scrapeInterval = 500 * time.Millisecond

// startPrometheus runs program with the configuration that ships, but for its interval, on targets.
func startPrometheus(ctx context.Context, t *testing.T, program string, targets []byte) *promServer {
	t.Helper()
	dir := t.TempDir()
	config, err := os.ReadFile(deployed + "prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(config, []byte("_interval: 15s")) != 2 {
		t.Fatal("the configuration has other intervals than this test knows")
	}
	config = bytes.ReplaceAll(config, []byte("_interval: 15s"), []byte("_interval: "+scrapeInterval.String()))
	rules, err := os.ReadFile(deployed + "prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "targets"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"prometheus.yml": config, "rules.yml": rules, "targets/bookinfo.yaml": targets} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := loopback.Free(t)
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("Prometheus said:\n%s", said.String())
		}
	})
	p := &promServer{base: "http://" + address, client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(p.client.CloseIdleConnections)
	await(ctx, t, func() error {
		select {
		case <-exited:
			return fmt.Errorf("prometheus has ended")
		default:
		}
		return get(ctx, p.client, p.base+"/-/ready", func([]byte) error { return nil })
	})
	return p
}

// await tries until an attempt succeeds. Nothing but the end of all the test bounds it.
func await(ctx context.Context, t *testing.T, attempt func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := attempt()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// A promSeries is one series of an answer, with its points: their times, in seconds, and values.
type promSeries struct {
	Metric map[string]string
	Value  [2]any   // of an instant
	Values [][2]any // of a range
}

func (s *promSeries) points() (times, values []float64) {
	all := s.Values
	if s.Value[0] != nil {
		all = append(all, s.Value)
	}
	for _, p := range all {
		at, _ := p[0].(float64)
		text, _ := p[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			v = math.NaN()
		}
		times, values = append(times, at), append(values, v)
	}
	return times, values
}

// ask calls the HTTP API (Prometheus, HTTP API, version 1).
func (p *promServer) ask(t *testing.T, path string, query url.Values, into any) {
	t.Helper()
	resp, err := p.client.Get(p.base + "/api/v1/" + path + "?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var a struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err == nil && a.Status != "success" {
		err = fmt.Errorf("%s", a.Error)
	}
	if err == nil {
		err = json.Unmarshal(a.Data, into)
	}
	if err != nil {
		t.Fatalf("%s %v: %v: %.300s", path, query, err, text)
	}
}

func seconds(at time.Time) string {
	return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)
}

// instant evaluates a query at a moment.
func (p *promServer) instant(t *testing.T, query string, at time.Time) []promSeries {
	t.Helper()
	var r struct{ Result []promSeries }
	p.ask(t, "query", url.Values{"query": {query}, "time": {seconds(at)}}, &r)
	return r.Result
}

// over evaluates a query every second of a time, as a graph does.
func (p *promServer) over(t *testing.T, query string, from, to time.Time) []promSeries {
	t.Helper()
	var r struct{ Result []promSeries }
	p.ask(t, "query_range", url.Values{"query": {query}, "start": {seconds(from)}, "end": {seconds(to)}, "step": {"1"}}, &r)
	return r.Result
}

// sum evaluates a query whose result is one number, 0 where it is empty.
func (p *promServer) sum(t *testing.T, query string, at time.Time) float64 {
	t.Helper()
	total := 0.0
	for _, s := range p.instant(t, query, at) {
		_, values := s.points()
		total += values[0]
	}
	return total
}

// hasData reports whether a series has a number.
func hasData(all []promSeries) bool {
	for _, s := range all {
		_, values := s.points()
		for _, v := range values {
			if !math.IsNaN(v) {
				return true
			}
		}
	}
	return false
}
