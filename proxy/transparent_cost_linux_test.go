package proxy_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
	"github.com/heddlemesh/mesh/proxy"
)

// What one sidecar listens on in both modes, and where its upstream is.
const (
	explicitOut, explicitIn = "127.0.0.1:16001", netns.HereV4 + ":16006"
	captiveUpstream         = "9080"
	captiveHost             = "240.240.0.1" // of the captured calls, which lead nowhere
)

// benchTransparent is one sidecar that is reached in both modes.
func benchTransparent() error {
	up := "127.0.0.1:" + captiveUpstream
	m, err := mesh.New(context.Background(), mesh.WithConfig([]byte(service("reviews", "HTTP", up)+benchRules)))
	if err != nil {
		return err
	}
	defer m.Close()
	s, err := proxy.Start(proxy.Config{Mesh: m, Guard: proxy.NewGuard(nil), Outbound: explicitOut, Inbound: []proxy.Inbound{{Listen: explicitIn, App: up}}, AllowNonLoopback: true,
		Capture: proxy.Capture{Outbound: []string{"127.0.0.1:15001"}, Inbound: []string{":15006"}}})
	if err != nil {
		return err
	}
	return <-s.Failed()
}

// TestNamespaceTransparentCost measures, for a request in steady state, the CPU of one sidecar that is called on its ports, with no rules there, and of the
// same one behind rules: by turns, so that each difference is between neighbours. What the rules cost a server that is no sidecar, on one connection and not
// on two, is measured beside it: the kernel's own part. The yardstick is 1 µs. It needs HEDDLE_COMPARE, and Debian's wrk.
func TestNamespaceTransparentCost(t *testing.T) {
	repetitions, _ := strconv.Atoi(os.Getenv("HEDDLE_COMPARE"))
	if repetitions <= 0 {
		t.Skip("HEDDLE_COMPARE is not set")
	}
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	netns.Command(t, "ip", "route", "add", "default", "via", netns.ThereV4)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bare, stop := command(t, "127.0.0.1:"+captiveUpstream, roleCommand(t, self, "upstream", ":"+captiveUpstream, "1024"))
	defer stop()
	sidecar, stop := command(t, explicitOut, roleCommand(t, self, "transparent"))
	defer stop()
	upstreamPort, _ := strconv.ParseUint(captiveUpstream, 10, 16)
	out := func(address string) int { return loadAs(t, userOfProgram, address, 1) }
	in := func(address string) (n int) {
		there.Do(func() { n = loadAs(t, 0, address, 1) })
		return n
	}
	for _, c := range []modes{
		{"outbound", sidecar, explicitOut, captiveHost + ":80", capture.Config{}, out},
		{"of which a server behind such rules", bare, "127.0.0.1:" + captiveUpstream, captiveHost + ":80", capture.Config{OutboundPort: uint16(upstreamPort)}, out},
		{"inbound", sidecar, explicitIn, netns.HereV4 + ":" + captiveUpstream, capture.Config{}, in},
		{"of which a server behind such rules", bare, netns.HereV4 + ":" + captiveUpstream, netns.HereV4 + ":9081", capture.Config{InboundPort: uint16(upstreamPort)}, in},
	} {
		c.compare(t, repetitions)
	}
}

// modes are the two in which a process is called: at its own address, with no rules there, and at one that rules lead to it from.
type modes struct {
	name               string
	process            *os.Process
	explicit, captured string
	rules              capture.Config
	send               func(address string) int
}

// compare says what requests cost the process in both modes.
func (m modes) compare(t *testing.T, repetitions int) {
	own := map[string]time.Duration{} // of its code, and not of the kernel for it
	requests := map[string]int{}
	cost := func(address string) float64 {
		before, ownBefore := ran(t, m.process.Pid), userTicks(t, m.process.Pid)
		n := m.send(address)
		requests[address] += n
		own[address] += userTicks(t, m.process.Pid) - ownBefore
		return float64(ran(t, m.process.Pid)-before) / float64(n) / float64(time.Microsecond)
	}
	captive := func() float64 {
		m.rules.UIDs = []capture.Range{{First: 0, Last: 0}}
		if err := capture.Install(t.Context(), m.rules, capture.Run); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := capture.Uninstall(context.Background(), capture.Run); err != nil {
				t.Fatal(err)
			}
		}()
		return cost(m.captured)
	}
	both := []func() float64{func() float64 { return cost(m.explicit) }, captive}
	var explicit, captured, more []float64
	for pair := range 1 + pairsOfModes*repetitions {
		var found [2]float64
		for n := range both {
			n ^= pair % 2 // by turns the one and the other first
			found[n] = both[n]()
		}
		if pair > 0 { // the first is for connections and pools
			explicit, captured, more = append(explicit, found[0]), append(captured, found[1]), append(more, found[1]-found[0])
		}
	}
	code := func(address string) float64 {
		return float64(own[address]) / float64(max(1, requests[address])) / float64(time.Microsecond)
	}
	t.Logf("%-35s  explicit %.2f µs, captured %.2f µs of CPU a request, of which its code %.2f µs and %.2f µs; captured is %+.2f µs more (median of %d pairs, %s)",
		m.name, middle(explicit), middle(captured), code(m.explicit), code(m.captured), middle(more), len(more), rounded(more))
}

// pairsOfModes are how many pairs a repetition is, of a second for each mode.
const pairsOfModes = 3

// userTicks gives the time that a process has spent in its own code, by the scheduler's clock.
func userTicks(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	n, _ := strconv.Atoi(strings.Fields(rest)[11])
	return time.Duration(n) * 10 * time.Millisecond
}

func middle(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

func rounded(all []float64) string {
	var texts []string
	for _, v := range all {
		texts = append(texts, fmt.Sprintf("%+.2f", v))
	}
	return strings.Join(texts, " ")
}

// loadAs sends requests from 64 connections, as a user, and gives their number.
func loadAs(t *testing.T, user uint32, address string, seconds int) int {
	t.Helper()
	if host, port, _ := net.SplitHostPort(address); port == "80" {
		address = host // wrk has Host as it is told, and the port from the URL
	}
	cmd := exec.CommandContext(t.Context(), "wrk", "-t1", "-c64", fmt.Sprintf("-d%ds", seconds), "-H", "Host: reviews", "http://"+address+"/reviews/1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	out, err := cmd.CombinedOutput()
	found := wrkCount.FindSubmatch(out)
	if err != nil || found == nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		t.Fatalf("wrk %s: %v: %s", address, err, out)
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}
