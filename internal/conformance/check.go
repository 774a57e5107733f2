package conformance

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/heddlemesh/mesh/transport"
)

// tolerance is how far a statistical share of n calls may be from what the row says, in points: three times
// the standard deviation of the widest, 1.5 for 10,000 calls.
func tolerance(n int) float64 { return 150 / math.Sqrt(float64(n)) }

// anyAttempts in a row says that the number of attempts depends on which endpoint came first.
const anyAttempts = -1

// Check compares what came out of the calls with what the row wants, and gives every difference in words.
func (c *Case) Check(got []Result) []string {
	var wrong []string
	if want := max(c.Repeat, 1); len(got) != want {
		return []string{fmt.Sprintf("%d results of %d calls", len(got), want)}
	}
	if c.Shares != nil {
		return c.checkShares(got)
	}
	for i := range got {
		want := c.Want
		if c.First > 0 && i >= c.First {
			want = c.Then
		}
		if wrong = want.diff(&got[i]); len(wrong) > 0 {
			if c.First > 0 {
				wrong = append(wrong, fmt.Sprintf("call %d of %d", i+1, len(got)))
			}
			break
		}
	}
	if c.Cycle != nil {
		wrong = append(wrong, c.checkCycle(got)...)
	}
	if c.Keys > 0 {
		wrong = append(wrong, c.checkKeys(got)...)
	}
	if c.Random {
		n := len(tally(got))
		if n < 2 || takesTurns(got, n) {
			wrong = append(wrong, fmt.Sprintf("%d endpoints answer in turn, want several at random", n))
		}
	}
	return wrong
}

// diff gives the differences of a result from the wanted one.
func (want Result) diff(got *Result) []string {
	var wrong []string
	differ := func(field string, want, got any) {
		wrong = append(wrong, fmt.Sprintf("%s %s, want %s", field, shown(got), shown(want)))
	}
	if want.Flag == "" {
		want.Flag = "-"
	}
	if want.Status == 0 {
		want.Status = http.StatusOK
	}
	if want.Flag != got.Flag {
		differ("flag", want.Flag, got.Flag)
	}
	if want.Status != got.Status {
		differ("status", want.Status, got.Status)
	}
	if n, ok := want.attempts(); ok && n != got.Attempts {
		differ("attempts", n, got.Attempts)
	}
	if want.GRPC != got.GRPC {
		differ("grpc-status", want.GRPC, got.GRPC)
	}
	if want.Tried != 0 && want.Tried != got.Tried {
		differ("endpoints tried", want.Tried, got.Tried)
	}
	for _, f := range []struct{ name, want, got string }{
		{"route", want.Route, got.Route},
		{"cluster", want.Cluster, got.Cluster},
		{"endpoint", want.Endpoint, got.Endpoint},
		{"proto", want.Proto, got.Proto},
		{"host", want.Host, got.Host},
		{"path", want.Path, got.Path},
		{"body", want.Body, got.Body},
		{"cookie", want.Cookie, got.Cookie},
		{"server name", want.SNI, got.SNI},
		{"caller", want.Caller, got.Caller},
	} {
		if f.want != "" && f.want != f.got {
			differ(f.name, f.want, f.got)
		}
	}
	for name, values := range want.Header {
		if !slices.Equal(values, got.Header[name]) {
			differ("header "+name, values, got.Header[name])
		}
	}
	return append(wrong, want.diffAnswer(got)...)
}

// diffAnswer gives the differences in what the caller got beside a status, and in what mirrors saw.
func (want *Result) diffAnswer(got *Result) []string {
	var wrong []string
	differ := func(field string, want, got any) {
		wrong = append(wrong, fmt.Sprintf("%s %s, want %s", field, shown(got), shown(want)))
	}
	if want.Details != "" && got.Endpoint != "" {
		differ("endpoint", "none", got.Endpoint)
	}
	for _, f := range []struct{ name, want, got string }{
		{"text", want.Text, got.Text},
		{"flags", want.Flags, got.Flags},
		{"details", want.Details, got.Details},
	} {
		if f.want != "" && f.want != f.got {
			differ(f.name, f.want, f.got)
		}
	}
	for name, values := range want.Answer {
		if !slices.Equal(values, got.Answer[name]) {
			differ("answered header "+name, values, got.Answer[name])
		}
	}
	if want.Took != 0 && want.Took != got.Took {
		differ("took", want.Took, got.Took)
	}
	if want.Copies == nil {
		return wrong
	}
	if len(want.Copies) != len(got.Copies) {
		differ("copies", len(want.Copies), len(got.Copies))
		return wrong
	}
	for i := range want.Copies {
		w, g := &want.Copies[i], &got.Copies[i]
		if w.At != g.At || w.Method != "" && w.Method != g.Method || w.Host != "" && w.Host != g.Host || w.Path != "" && w.Path != g.Path || w.Body != g.Body {
			differ("copy", fmt.Sprintf("%s %s %s %s, %d bytes", w.At, w.Method, w.Host, w.Path, len(w.Body)),
				fmt.Sprintf("%s %s %s %s, %d bytes", g.At, g.Method, g.Host, g.Path, len(g.Body)))
		}
		for name, values := range w.Header {
			if !slices.Equal(values, g.Header[name]) {
				differ("copied header "+name, values, g.Header[name])
			}
		}
	}
	return wrong
}

// attempts gives the number of attempts the row wants, false where it does not care: whether a call that
// passed through counts as an attempt is not the table's to say.
func (want *Result) attempts() (int, bool) {
	switch {
	case want.Attempts == anyAttempts:
		return 0, false
	case want.Attempts != 0:
		return want.Attempts, true
	case want.Details != "":
		return 0, true
	case want.Cluster == transport.PassthroughCluster:
		return 0, false
	case want.Flag == "-":
		return 1, true
	}
	return 0, want.Flag != "DPE"
}

func shown(v any) string {
	const most = 80
	if s, ok := v.(string); ok {
		if len(s) > most {
			return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
		}
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprint(v)
}

// tally counts results by the endpoint that answered, or by the flag of the error.
func tally(got []Result) map[string]int {
	n := map[string]int{}
	for i := range got {
		n[kindsOf(&got[i])[0]]++
	}
	return n
}

// What became of a call, besides its endpoint or flag.
const (
	byTheRule = "by the rule"
	delayed   = "delayed"
	copied    = "copied to "
)

// kindsOf says what became of the call: the endpoint that answered, the flag of the error or byTheRule, delayed where it
// took time (with byTheRule also the two together), and copied with the address of each mirror.
func kindsOf(r *Result) []string {
	first := r.Endpoint
	switch {
	case r.Flag != "-":
		first = r.Flag
	case first == "":
		first = byTheRule
	}
	kinds := []string{first}
	if r.Took > 0 {
		kinds = append(kinds, delayed)
		if first == byTheRule {
			kinds = append(kinds, delayed+" "+byTheRule)
		}
	}
	for _, c := range r.Copies {
		kinds = append(kinds, copied+c.At)
	}
	return kinds
}

func (c *Case) checkShares(got []Result) []string {
	var wrong []string
	counts, allowed := map[string]int{}, tolerance(len(got))
	for i := range got {
		for _, kind := range kindsOf(&got[i]) {
			counts[kind]++
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Shares)) {
		want, have := c.Shares[key], 100*float64(counts[key])/float64(len(got))
		exact := want == 0 || want == 100
		if exact && have != want || math.Abs(have-want) > allowed {
			wrong = append(wrong, fmt.Sprintf("%s has %.2f %% of the calls, want %.2f %%", key, have, want))
		}
		delete(counts, key)
	}
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		wrong = append(wrong, fmt.Sprintf("%s has %d calls, want none", key, counts[key]))
	}
	return wrong
}

// checkCycle wants the endpoints one after the other in the row's order, from any of them on.
func (c *Case) checkCycle(got []Result) []string {
	start := slices.Index(c.Cycle, got[0].Endpoint)
	for i := range got {
		if start < 0 || got[i].Endpoint != c.Cycle[(start+i)%len(c.Cycle)] {
			var seen []string
			for _, r := range got {
				seen = append(seen, r.Endpoint)
			}
			return []string{fmt.Sprintf("call %d leaves the turn: %s, want a rotation of %s", i+1,
				strings.Join(seen, " "), strings.Join(c.Cycle, " "))}
		}
	}
	return nil
}

// checkKeys wants one endpoint for each request, and several for all.
func (c *Case) checkKeys(got []Result) []string {
	at := make(map[int]string)
	for i := range got {
		key := i % c.Keys
		if first, ok := at[key]; ok && first != got[i].Endpoint {
			return []string{fmt.Sprintf("request %d is answered by %s and by %s", key, first, got[i].Endpoint)}
		}
		at[key] = got[i].Endpoint
	}
	if n := len(tally(got)); n < 2 {
		return []string{fmt.Sprintf("all requests are answered by %d endpoint, want several", n)}
	}
	return nil
}

// takesTurns reports whether the results repeat with a period of n.
func takesTurns(got []Result, n int) bool {
	for i := n; i < len(got); i++ {
		if got[i].Endpoint != got[i-n].Endpoint {
			return false
		}
	}
	return true
}
