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
// same one behind rules: by turns, so that each difference is between neighbours. It needs HEDDLE_COMPARE, and Debian's wrk.
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
	_, stop := command(t, "127.0.0.1:"+captiveUpstream, roleCommand(t, self, "upstream", ":"+captiveUpstream, "1024"))
	defer stop()
	sidecar, stop := command(t, explicitOut, roleCommand(t, self, "transparent"))
	defer stop()
	for _, direction := range []struct {
		name               string
		explicit, captured string
		send               func(address string) int
	}{
		{"outbound", explicitOut, captiveHost + ":80", func(address string) int { return loadAs(t, userOfProgram, address, 1) }},
		{"inbound", explicitIn, netns.HereV4 + ":" + captiveUpstream, func(address string) (n int) {
			there.Do(func() { n = loadAs(t, 0, address, 1) })
			return n
		}},
	} {
		own := map[string]time.Duration{} // of its code, and not of the kernel for it
		requests := map[string]int{}
		cost := func(address string) float64 {
			before, ownBefore := ran(t, sidecar.Pid), userTicks(t, sidecar.Pid)
			n := direction.send(address)
			requests[address] += n
			own[address] += userTicks(t, sidecar.Pid) - ownBefore
			return float64(ran(t, sidecar.Pid)-before) / float64(n) / float64(time.Microsecond)
		}
		modes := []func() float64{
			func() float64 { return cost(direction.explicit) },
			func() float64 {
				if err := capture.Install(t.Context(), capture.Config{UIDs: []capture.Range{{First: 0, Last: 0}}}, capture.Run); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := capture.Uninstall(context.Background(), capture.Run); err != nil {
						t.Fatal(err)
					}
				}()
				return cost(direction.captured)
			},
		}
		var explicit, captured, more []float64
		for pair := range 1 + pairsOfModes*repetitions {
			var found [2]float64
			for n := range modes {
				n ^= pair % 2 // by turns the one and the other first
				found[n] = modes[n]()
			}
			if pair > 0 { // the first is for connections and pools
				explicit, captured, more = append(explicit, found[0]), append(captured, found[1]), append(more, found[1]-found[0])
			}
		}
		code := func(address string) float64 {
			return float64(own[address]) / float64(max(1, requests[address])) / float64(time.Microsecond)
		}
		t.Logf("%-8s  explicit %.2f µs, captured %.2f µs of CPU a request, of which its code %.2f µs and %.2f µs; captured is %+.2f µs more (median of %d pairs, %s); the yardstick is 1 µs",
			direction.name, middle(explicit), middle(captured), code(direction.explicit), code(direction.captured), middle(more), len(more), rounded(more))
	}
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
