package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A table is what nft has of ours.
type table struct {
	mu    sync.Mutex // guards what follows
	rules string     // "" for none
	fails bool
	wrote int
}

func (k *table) run(_ context.Context, stdin, name string, args ...string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch line := strings.Join(append([]string{name}, args...), " "); {
	case name != "nft":
		return "", ErrNoTool
	case line == "nft list tables" && k.rules == "":
		return "table ip nat\n", nil
	case line == "nft list tables":
		return "table inet heddle\n", nil
	case line == "nft list table inet heddle":
		return k.rules, nil
	case k.fails:
		return "", errors.New("it failed")
	}
	k.wrote++
	_, k.rules, _ = strings.Cut(stdin, "delete table inet heddle\n")
	return "", nil
}

// captures says what the rules capture: "out", "in", "in 80" or "".
func (k *table) captures() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	if strings.Contains(k.rules, "tcp redirect to :15001") {
		all = append(all, "out")
	}
	if strings.Contains(k.rules, "tcp redirect to :15006") {
		all = append(all, "in")
		for line := range strings.Lines(k.rules) {
			if _, rest, ok := strings.Cut(line, "tcp dport "); ok {
				port, _, _ := strings.Cut(rest, " ")
				all = append(all, port)
			}
		}
	}
	return strings.Join(all, " ")
}

// A watched is a FailOpen that is under way in a bubble.
type watched struct {
	kernel  table
	changed chan struct{}
	end     context.CancelFunc
	ended   chan error

	mu      sync.Mutex // guards what follows
	up      bool       // somebody listens
	trouble error
	closed  Closed
	events  []FailOpenEvent
}

// have changes what there is.
func (w *watched) have(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *watched) tell(e FailOpenEvent) { w.have(func() { w.events = append(w.events, e) }) }

func (w *watched) policy() (c Closed) {
	w.have(func() { c = w.closed })
	return c
}

// count is how many events there are.
func (w *watched) count() (n int) {
	w.have(func() { n = len(w.events) })
	return n
}

func watch(t *testing.T, c Config, grace time.Duration, uninstall bool) *watched {
	w := &watched{up: true, changed: make(chan struct{}), ended: make(chan error, 1)}
	f := &FailOpen{Config: c, Grace: grace, Uninstall: uninstall, Changed: w.changed, Run: w.kernel.run,
		Policy: w.policy, Tell: w.tell,
		Listening: func(ports ...uint16) (bool, error) {
			if !slices.Equal(ports, []uint16{15001, 15006}) {
				t.Errorf("asked for ports %v", ports)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.up, w.trouble
		}}
	var ctx context.Context
	ctx, w.end = context.WithCancel(t.Context())
	go func() { w.ended <- f.Watch(ctx) }()
	synctest.Wait()
	return w
}

// after lets time go by and gives what was told of since, and what is captured then.
func (w *watched) after(d time.Duration) string {
	before := w.count()
	time.Sleep(d)
	synctest.Wait()
	return w.told(before)
}

func (w *watched) told(from int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, e := range w.events[from:] {
		b.WriteString([]string{"watching", "missing", "returned", "lifted", "restored", "failed", "left", "removed"}[e.Kind])
		if e.Lifted != "" {
			b.WriteString(" " + e.Lifted)
		}
		b.WriteString("; ")
	}
	return b.String() + w.kernel.captures()
}

// TestFailOpen: rules are lifted when nobody has listened for as long as was said, not sooner, and are put back at once.
func TestFailOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Config{}, 10*time.Second, false)
		step := func(what string, d time.Duration, up bool, want string) {
			t.Helper()
			w.have(func() { w.up = up })
			if got := w.after(d); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		if got := w.told(0); got != "watching; out in" {
			t.Errorf("begun: %q", got)
		}
		step("a sidecar", time.Hour, true, "out in")
		step("none for 9 s", 9*time.Second, false, "missing; out in")
		step("in time", time.Second, true, "returned; out in")
		step("none for 10 s", 10*time.Second, false, "missing; out in")
		step("and a look more", lookEvery, false, "lifted outbound and inbound; ")
		step("for long", time.Hour, false, "")
		step("back", lookEvery, true, "restored; out in")
		if last := w.events[len(w.events)-1]; last.For < time.Hour || last.For > time.Hour+time.Minute {
			t.Errorf("it was open for %v", last.For)
		}
		w.have(func() { w.trouble = errors.New("nobody knows") })
		step("it is not known who listens", time.Minute, false, "failed; out in")
		w.have(func() { w.trouble = nil })
		w.kernel.mu.Lock()
		w.kernel.fails = true
		w.kernel.mu.Unlock()
		step("it cannot be done", time.Minute, false, "missing; failed; out in")
		w.kernel.mu.Lock()
		w.kernel.fails = false
		w.kernel.mu.Unlock()
		step("it can", lookEvery, false, "lifted outbound and inbound; ")
		found, err := Status(t.Context(), w.kernel.run)
		if err != nil || len(found) != 1 || !found[0].FailOpen || found[0].Lifted != "outbound and inbound" || found[0].Damage != "" ||
			time.Since(found[0].Since) > 2*time.Second {
			t.Errorf("status %+v, %v", found, err)
		}
		w.end()
		if err := <-w.ended; err != nil || w.told(w.count()-1) != "left; out in" {
			t.Errorf("at the end %v, %q", err, w.told(w.count()-1))
		}
		if found, err = Status(t.Context(), w.kernel.run); err != nil || len(found) != 1 || !found[0].FailOpen || found[0].Lifted != "" || found[0].Damage != "" {
			t.Errorf("status at the end %+v, %v", found, err)
		}
	})
}

// TestFailOpenClosed: what policy closes stays captured, also where that changes while rules are lifted.
func TestFailOpenClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := Config{DNSPort: DNSPort, NoQUIC: true}
		c.Inbound.IncludePorts = []Range{{80, 90}, {8080, 8080}}
		w := watch(t, c, -1, true)
		w.have(func() { w.up, w.closed = false, OutboundOnly() })
		if got := w.after(lookEvery); got != "lifted outbound; in 80-90 8080" {
			t.Errorf("no policy: %q", got)
		}
		if strings.Contains(w.kernel.rules, "15053") || !strings.Contains(w.kernel.rules, "udp dport 443") {
			t.Errorf("queries and QUIC:\n%s", w.kernel.rules)
		}
		for _, c := range []struct {
			closed Closed
			want   string
		}{
			{Closed{Ports: []Range{{85, 100}, {7000, 9000}}}, "lifted outbound and inbound; in 85-90 8080"},
			{Closed{Ports: []Range{{85, 100}, {7000, 9000}}}, "in 85-90 8080"}, // once more
			{Closed{Ports: []Range{{1, 79}}}, "lifted outbound and inbound; "},
			{Closed{Outbound: "so it is"}, "lifted inbound; out"},
			{Closed{Outbound: "so it is", Inbound: "and so"}, "lifted; out in 80-90 8080"},
			{Closed{Outbound: "so it is", Inbound: "and so"}, "out in 80-90 8080"},
		} {
			before := w.count()
			w.have(func() { w.closed = c.closed })
			w.changed <- struct{}{}
			synctest.Wait()
			if got := w.told(before); got != c.want {
				t.Errorf("%+v: %q, want %q", c.closed, got, c.want)
			}
		}
		w.end()
		if err := <-w.ended; err != nil || w.told(w.count()-1) != "removed; " {
			t.Errorf("at the end %v, %q", err, w.told(w.count()-1))
		}
	})
}

// TestFailOpenUninstalled: rules that somebody has taken out are not brought back.
func TestFailOpenUninstalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Config{}, -1, false)
		if err := Uninstall(t.Context(), w.kernel.run); err != nil {
			t.Fatal(err)
		}
		w.have(func() { w.up = false })
		if err := <-w.ended; !errors.Is(err, ErrUninstalled) || w.kernel.rules != "" {
			t.Errorf("%v, %q", err, w.kernel.rules)
		}
	})
}

// TestFailOpenRules: whatever is lifted, both backends write rules that Status knows for whole.
func TestFailOpenRules(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{}, everything(""), {TPROXY: true, DNSPort: DNSPort, NoQUIC: true}, {NoIPv6: true, TPROXY: true}} {
		for _, l := range []lift{{}, {outbound: true}, {inbound: true}, {outbound: true, inbound: true, closed: []Range{{9080, 9080}}}} {
			l.since = time.Unix(1795320000, 0)
			c, err := c.with(l).complete()
			if err != nil {
				t.Fatal(err)
			}
			check := func(what, rules string, n int) {
				p := Place{Rules: rules}
				if p.inspect(n); p.Damage != "" || !p.FailOpen || p.Lifted != liftedNames[l.name()] || p.TPROXY != c.TPROXY || l.any() && !p.Since.Equal(l.since) {
					t.Errorf("%s, %+v: %+v", what, l, p)
				}
			}
			_, text, _ := strings.Cut(c.nftScript(), "delete table inet heddle\n")
			n := 0
			for line := range strings.Lines(text) {
				if isRule(line) {
					n++
				}
			}
			check("nft", text, n)
			if comment := c.mark(c.nftBody()); len(comment) > 127 { // NFTNL_UDATA_COMMENT_MAXLEN
				t.Errorf("%d bytes: %s", len(comment), comment)
			}
			state := c.iptablesState(ipv4)
			rules, _ := state.all()
			check("iptables", strings.Join(rules, "\n"), len(rules))
			for _, port := range []uint16{c.OutboundPort, DNSPort} {
				if rule := fmt.Sprintf("tcp redirect to :%d", port); l.outbound && strings.Contains(text, rule) {
					t.Errorf("%+v: %s\n%s", l, rule, text)
				}
			}
		}
	}
}
