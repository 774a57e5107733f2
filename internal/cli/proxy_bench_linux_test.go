package cli

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/internal/services"
)

// What make bench-life measures, with the binary as it is released, and what it holds it to.
const (
	benchLife     = "HEDDLE_LIFE_BENCH" // set: do it
	benchServices = 1000
	mostServices  = 35 << 20 // of PSS, with benchServices
	mostRuled     = 70 << 20 // with a rule, two subsets and a policy each
	benchIdle     = 8000     // connections, which two descriptors each are within a test's limit
	mostIdle      = 7000     // bytes of PSS, each
	mostStart     = time.Second
)

// A measured is a released binary that runs.
type measured struct {
	*process
	at map[string]string
}

// built builds the binary as .ci/run does.
func built(t *testing.T) string {
	t.Helper()
	if os.Getenv(benchLife) == "" {
		t.Skip("a measurement: make bench-life")
	}
	binary := filepath.Join(t.TempDir(), "heddle")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags=grpcnotrace", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", binary, "../../cmd/heddle")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	return binary
}

func run1(t *testing.T, binary string, env []string, args ...string) measured {
	t.Helper()
	p := spawnProgram(t, env, binary, append([]string{"proxy"}, args...)...)
	return measured{p, p.addresses()}
}

// pss gives the proportional set size, and the largest resident one so far.
func (m measured) pss(t *testing.T) (pss, peak int64) {
	t.Helper()
	read := func(file, field string) int64 {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", m.cmd.Process.Pid, file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, field+":"); ok {
				n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				return n << 10
			}
		}
		t.Fatalf("%s has no %s", file, field)
		return 0
	}
	return read("smaps_rollup", "Pss"), read("status", "VmHWM")
}

// servicesIn writes a configuration of n services, with rules, subsets and policies or without.
func servicesIn(t *testing.T, n int, ruled bool) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "services.yaml"), []byte(services.YAML(n, ruled)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestBenchServices: what a sidecar weighs, and how long it takes to serve, with a thousand services: from the files and by the snapshot.
func TestBenchServices(t *testing.T) {
	binary := built(t)
	empty := run1(t, binary, nil, slices.Concat([]string{"--config", servicesIn(t, 1, false)}, apart)...)
	for _, ruled := range []bool{false, true} {
		what := "without rules"
		if ruled {
			what = "with a rule, two subsets and a policy each"
		}
		dir, state := servicesIn(t, benchServices, ruled), filepath.Join(t.TempDir(), "state")
		args := slices.Concat([]string{"--config", dir, "--snapshot-dir", state}, apart)
		began := time.Now()
		m := run1(t, binary, nil, args...)
		files := time.Since(began)
		<-time.After(3 * restTime)
		pss, peak := m.pss(t)
		m.signal(syscall.SIGKILL)
		m.code()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		m = run1(t, binary, nil, args...)
		kept := time.Since(began)
		t.Logf("%d services %s: PSS %.1f MB (largest RSS %.1f MB); ready after %s from the files, %s by the snapshot", benchServices, what, mb(pss), mb(peak),
			files.Truncate(time.Millisecond), kept.Truncate(time.Millisecond))
		most := int64(mostServices)
		if ruled {
			most = mostRuled
		}
		if pss > most {
			t.Errorf("it weighs more than %d MB", most>>20)
		}
		if !ruled && kept > mostStart {
			t.Errorf("it starts later than after %s", mostStart)
		}
		m.signal(syscall.SIGKILL)
		m.code()
	}
	pss, _ := empty.pss(t)
	t.Logf("with one service: PSS %.1f MB", mb(pss))
}

func mb(n int64) float64 { return float64(n) / (1 << 20) }

// TestBenchIdle: idle connections under GOMEMLIMIT=128MiB (E-015).
func TestBenchIdle(t *testing.T) {
	binary := built(t)
	app := upstreamOf(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	inbound := loopback.Free(t)
	m := run1(t, binary, []string{"GOMEMLIMIT=128MiB"}, slices.Concat([]string{"--config", servicesIn(t, 1, false), "--inbound", inbound + "=" + app}, apart)...)
	before, _ := m.pss(t)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for range benchIdle {
		c, err := net.Dial("tcp", inbound)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
	}
	after, peak := m.pss(t)
	each := (after - before) / benchIdle
	t.Logf("%d idle connections: %d bytes of PSS each, at most %d; %.1f MB in all, largest RSS %.1f MB", benchIdle, each, mostIdle, mb(after), mb(peak))
	if each > mostIdle {
		t.Error("they weigh too much")
	}
}

// TestBenchSlow: a thousand downloads of 10 MB that nobody reads, under GOMEMLIMIT=128MiB: back-pressure, not memory (E-016).
func TestBenchSlow(t *testing.T) {
	binary := built(t)
	app := upstreamOf(t, download{10_000_000})
	inbound := loopback.Free(t)
	m := run1(t, binary, []string{"GOMEMLIMIT=128MiB"}, slices.Concat([]string{"--config", servicesIn(t, 1, false), "--inbound", inbound + "=" + app}, apart)...)
	const readers, most = 1000, 160 << 20
	var all sync.WaitGroup
	var open []net.Conn
	for range readers {
		c, err := net.Dial("tcp", inbound)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}
	<-time.After(5 * time.Second)
	held, _ := m.pss(t)
	for _, c := range open {
		all.Go(func() {
			defer c.Close()
			if n, err := io.Copy(io.Discard, c); n < 10_000_000 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	all.Wait()
	_, peak := m.pss(t)
	t.Logf("%d downloads of 10 MB that nobody reads: PSS %.1f MB; all read in the end, largest RSS %.1f MB; at most %d MB", readers, mb(held), mb(peak), most>>20)
	if peak > most {
		t.Error("it holds too much")
	}
}
