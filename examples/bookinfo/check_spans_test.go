package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// pageSpans are those of a page under the browser's span.
func pageSpans(above string) []span {
	all := []span{{service: "productpage.default", id: "p", above: above, kind: spanServer}}
	for n, hop := range [][3]string{{"productpage.default", "details.default", "p"}, {"productpage.default", "reviews.default", "p"}, {"reviews.default", "ratings.default", "s1"}} {
		call, attempt, server := fmt.Sprint("c", n), fmt.Sprint("a", n), fmt.Sprint("s", n)
		all = append(all, span{service: hop[0], id: call, above: hop[2], kind: spanInternal}, span{service: hop[0], id: attempt, above: call, kind: spanClient},
			span{service: hop[1], id: server, above: attempt, kind: spanServer})
	}
	return all
}

func TestJudgeSpans(t *testing.T) {
	t.Parallel()
	for _, above := range []string{"", "browser"} {
		if err := judgeSpans(pageSpans(above), above); err != nil {
			t.Error(err)
		}
	}
	for _, one := range []struct {
		name   string
		change func([]span) []span
		want   string
	}{
		{"nothing", func([]span) []span { return nil }, "found []"},
		{"another browser", func(all []span) []span { all[0].above = "somebody"; return all }, `found it under "somebody"`},
		{"no attempt", func(all []span) []span { all[3].above = "c0"; return all }, "under an attempt"},
		{"an attempt of another service", func(all []span) []span { all[2].service = "ratings.default"; return all }, "under an attempt"},
		{"a call under no request", func(all []span) []span { all[1].above = ""; return all }, "under an attempt"},
		{"ratings under productpage", func(all []span) []span { all[7].above = "p"; return all }, "under an attempt"},
		{"no ratings", func(all []span) []span { return all[:7] }, "found [details.default productpage.default reviews.default]"},
		{"one more", func(all []span) []span { return append(all, span{id: "x", kind: spanClient}) }, "found 11"},
		{"an attempt twice", func(all []span) []span { return append(all, all[8]) }, "ten spans"},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			expects(t, judgeSpans(one.change(pageSpans("browser")), "browser"), one.want)
		})
	}
}

func TestJudgeGraph(t *testing.T) {
	t.Parallel()
	var edges []graphEdge
	for _, e := range bookinfoEdges {
		edges = append(edges, graphEdge{From: e[0] + ".default", To: e[1] + ".default", Service: e[2], Requests: 1, Secured: true})
	}
	edges = append(edges, graphEdge{From: "unknown", To: "productpage-v1.default", Requests: 9})
	if known, err := judgeGraph(edges); err != nil || len(known) != len(bookinfoEdges) {
		t.Error(known, err)
	}
	_, err := judgeGraph(edges[1:])
	expects(t, err, "expected edges")
	plain := append([]graphEdge{{From: "reviews-v2.default", To: "ratings-v1.default", Requests: 1}}, edges...)
	_, err = judgeGraph(plain)
	expects(t, err, "by mutual TLS")
	_, err = judgeGraph(append([]graphEdge{{From: "ratings-v1.default", To: "details-v1.default", Requests: 1, Secured: true}}, edges...))
	expects(t, err, "ratings-v1.default → details-v1.default")
	more := append([]graphEdge{{From: "a", To: "b", Requests: 2}}, edges...)
	if grown := since(edges, more); len(grown) != 1 || grown[0].From != "a" {
		t.Error(grown)
	}
	twice := []graphEdge{more[0]}
	twice[0].Requests = 5
	if grown := since(more, twice); len(grown) != 1 || grown[0].Requests != 3 {
		t.Error(grown)
	}
}

// TestCollector: it reads what a collector is sent, and refuses the rest.
func TestCollector(t *testing.T) {
	t.Parallel()
	c, err := openCollector()
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	bytes := func(b []byte, n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	pair := func(k, v string) []byte { return bytes(bytes(nil, 1, []byte(k)), 2, bytes(nil, 1, []byte(v))) }
	one := bytes(bytes(bytes(bytes(nil, 1, []byte{0xab}), 2, []byte{1}), 4, []byte{2}), 5, []byte("name"))
	one = protowire.AppendVarint(protowire.AppendTag(one, 6, protowire.VarintType), spanServer)
	one = protowire.AppendFixed64(protowire.AppendTag(one, 7, protowire.Fixed64Type), 1)
	one = bytes(one, 9, pair("a", "b"))
	message := bytes(nil, 1, bytes(bytes(nil, 1, bytes(nil, 1, pair("service.name", "s"))), 2, bytes(nil, 2, one)))
	post := func(path string, body []byte) int {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.requests.Addr().String()+path, strings.NewReader(string(body)))
		req.Header.Set("Content-Type", "application/x-protobuf")
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if code := post("/v1/traces", message); code != http.StatusOK {
		t.Errorf("status %d", code)
	}
	if all := c.of("ab"); len(all) != 1 || fmt.Sprint(all[0]) != "{s ab 01 02 name 2 map[a:b]}" || len(c.tagged("a", "b")) != 1 || len(c.tagged("a", "c")) != 0 {
		t.Errorf("spans %v", all)
	}
	for path, body := range map[string][]byte{"/v1/logs": message, "/v1/traces": message[:len(message)-1]} {
		if code := post(path, body); code != http.StatusBadRequest {
			t.Errorf("%s: status %d", path, code)
		}
	}
}
