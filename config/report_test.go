package config

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestReport: every transaction once, whichever source it is of, in order, and with no lock held.
func TestReport(t *testing.T) {
	t.Parallel()
	const sources, changes = 4, 50
	var j *Joined
	var reports []Status // written by one call of Report at a time
	var list []Source
	for n := range sources {
		list = append(list, sourceFunc(func(_ context.Context, apply func(Update) []Verdict) error {
			for i := range changes {
				text := doc("ServiceEntry", fmt.Sprintf("s%d", n), reviewsEntry)
				if i%5 == 4 {
					text = "["
				} else if i%2 == 1 {
					text += "---\n" + doc("DestinationRule", fmt.Sprintf("r%d", n), reviewsRule)
				}
				apply(inlineUpdate([][]byte{[]byte(text)}))
			}
			return nil
		}))
	}
	ready := false
	j = Join(Options{Report: func(s Status) {
		reports = append(reports, s)
		select {
		case <-j.Ready():
			ready = true
		default:
			if len(reports) > 1 {
				t.Error("the first report came after the second")
			}
		}
		_ = j.Status() // takes the lock
	}}, new(discovery.Registry), list...)
	var published int
	if err := j.Run(t.Context(), func(context.Context, *snapshot.Snapshot) error { published++; return nil }); err != nil {
		t.Fatal(err)
	}
	if want := 1 + sources*(changes-1); len(reports) != want || !ready {
		t.Fatalf("%d reports, want %d", len(reports), want)
	}
	version, refused := 0, 0
	for i, s := range reports {
		n, err := strconv.Atoi(s.Version)
		if err != nil || n < version {
			t.Fatalf("report %d is of version %q, after %d", i, s.Version, version)
		}
		version = n
		if s.Refused != nil {
			refused++
		}
	}
	if version != published || refused != sources*changes/5 {
		t.Errorf("the last version is %d of %d, %d were refused", version, published, refused)
	}
}

// TestReportWhileReporting: a transaction that ends while another's report is under way does not wait for it,
// and its own follows.
func TestReportWhileReporting(t *testing.T) {
	t.Parallel()
	var got []string
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	j := Join(Options{Report: func(s Status) {
		once.Do(func() { close(entered); <-leave })
		got = append(got, s.Version)
	}}, new(discovery.Registry), nil)
	replace := func(name string) {
		u := inlineUpdate([][]byte{[]byte(doc("ServiceEntry", name, reviewsEntry))})
		j.transact(t.Context(), []change{{0, u}}, func(context.Context, *snapshot.Snapshot) error { return nil })
	}
	done := make(chan struct{})
	go func() { defer close(done); replace("a") }()
	<-entered
	replace("b")
	replace("c")
	close(leave)
	<-done
	if fmt.Sprint(got) != "[1 2 3]" {
		t.Errorf("reported %v", got)
	}
}

// TestResolve: which endpoints are names whose every address counts.
func TestResolve(t *testing.T) {
	t.Parallel()
	entry := func(spec string) string {
		return doc("ServiceEntry", "x", "{hosts: [x.example.com], ports: [{number: 80, name: http, protocol: HTTP}], "+spec+"}")
	}
	for name, c := range map[string]struct {
		docs []string
		want string
	}{
		"the host itself": {[]string{entry("resolution: DNS")}, "x.example.com:80 true"},
		"an address":      {[]string{entry("resolution: DNS, endpoints: [{address: 10.0.0.1}]")}, "10.0.0.1:80 false"},
		"a name":          {[]string{entry("resolution: DNS, endpoints: [{address: y.example.com, ports: {http: 81}}]")}, "y.example.com:81 true"},
		"of a workload": {[]string{entry("resolution: DNS, workloadSelector: {labels: {a: b}}"),
			doc("WorkloadEntry", "w", "{address: w.example.com, labels: {a: b}}")}, "w.example.com:80 true"},
		"in turn": {[]string{entry("resolution: DNS_ROUND_ROBIN")}, "x.example.com:80 false"},
		"static workload": {[]string{entry("resolution: STATIC, workloadSelector: {labels: {a: b}}"),
			doc("WorkloadEntry", "w", "{address: w.example.com, labels: {a: b}}")}, "w.example.com:80 false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{}, c.docs...)
			set := w.registry.Get(discovery.Key{Host: "x.example.com", Port: 80})
			if set == nil || set.Len() != 1 {
				t.Fatalf("%v, refused: %v", set, w.Status().Refused)
			}
			if got := fmt.Sprintf("%s %t", set.At(0).Address, set.At(0).Resolve); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
