// Command client measures what a call costs in the program that makes it: over the mesh with its features on, over a
// bare http.Transport, and over one with otelhttp. It is a module of its own, so that the mesh needs nothing of otelhttp.
//
//	go run . -repetitions 5 -seconds 2
//
// Each contender runs in a process of its own, in turns and each second repetition in the other order; the server is another process.
// The figure is the CPU of the client's process, user and system by getrusage, for each answered call. What counts are the
// ratios within a repetition.
package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A measure is what one process has measured.
type measure struct {
	Calls  int     // answered
	CPU    float64 // µs a call
	Allocs float64 // a call
	Bytes  float64
}

// A comparison is one line of the result.
type comparison struct {
	name, ours, theirs string
	goal               float64 // as the ratio ought to be at most
}

var comparisons = []comparison{
	{"features on ÷ Transport with otelhttp", "mesh", "otelhttp", 0.42},
	{"features on ÷ bare http.Transport", "mesh", "bare", 0.70},
	{"features on, net/http's leaf ÷ bare http.Transport", "mesh-nethttp", "bare", 0},
	{"with a deadline ÷ Transport with one", "mesh-deadline", "bare-deadline", 0.75},
	{"mTLS ÷ Transport with mTLS", "mesh-mtls", "bare-mtls", 0.75},
	{"1 KiB POST ÷ bare http.Transport", "mesh-post", "bare-post", 0.75},
}

func main() {
	role := flag.String("role", "", "what this process is: server, or a contender; default the one that starts the others")
	address := flag.String("address", "", "of the server")
	dir := flag.String("dir", "", "of the certificates")
	goroutines := flag.Int("goroutines", 64, "calls at a time")
	seconds := flag.Float64("seconds", 2, "of each measurement, after half of that to warm up")
	repetitions := flag.Int("repetitions", 5, "of everything")
	only := flag.String("only", "", "the beginning of the names to compare; default all")
	flag.Parse()
	switch *role {
	case "":
		if err := compare(*repetitions, *goroutines, *seconds, *only); err != nil {
			log.Fatal(err)
		}
	case "server":
		log.Fatal(serve(*dir))
	case "serve-bare", "serve-mesh", "serve-codec", "serve-pair-bare", "serve-pair-plain", "serve-pair-mtls":
		if err := serveOne(*role, *dir); err != nil {
			log.Fatal(err)
		}
	case "idle":
		if err := idle(*goroutines); err != nil {
			log.Fatal(err)
		}
	default:
		m, err := run(*role, *address, *dir, *goroutines, *seconds)
		if err != nil {
			log.Fatalf("%s: %v", *role, err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
			log.Fatal(err)
		}
	}
}

// compare starts the server and the contenders, and prints a table.
func compare(repetitions, goroutines int, seconds float64, only string) error {
	dir, err := os.MkdirTemp("", "bench-client")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := writeCertificates(dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command(self, "-role", "server", "-dir", dir)
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	var addresses [3]string // plain, TLS, those of RPCs
	if _, err := fmt.Fscanln(out, &addresses[0], &addresses[1], &addresses[2]); err != nil {
		return err
	}
	var names []string // those that are compared run one after the other
	for _, c := range all {
		for _, name := range []string{c.theirs, c.ours} {
			if !slices.Contains(names, name) && strings.HasPrefix(name, only) {
				names = append(names, name)
			}
		}
	}
	measured := make(map[string][]measure)
	for r := range repetitions {
		for i := range names {
			name := names[i]
			if r%2 == 1 {
				name = names[len(names)-1-i]
			}
			if strings.HasPrefix(name, "serve-") {
				m, err := measureServer(self, name, goroutines, seconds)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				measured[name] = append(measured[name], m)
				continue
			}
			if strings.HasPrefix(name, "pair-") {
				m, err := measurePair(self, name, dir, goroutines, seconds)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				measured[name] = append(measured[name], m)
				continue
			}
			address := addresses[0]
			if strings.HasSuffix(name, "mtls") {
				address = addresses[1]
			}
			if strings.HasPrefix(strings.TrimPrefix(name, seen), "grpc-") {
				address = addresses[2]
			}
			m, err := measureClient(self, name, address, dir, goroutines, seconds)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			measured[name] = append(measured[name], m)
		}
	}
	report(os.Stdout, goroutines, measured)
	return nil
}

// all is everything that can be compared.
var all = slices.Concat(comparisons, rpcs, servings, pairs, seeings)

// measureClient has a contender make calls in a process of its own.
func measureClient(self, name, address, dir string, goroutines int, seconds float64) (m measure, err error) {
	cmd := exec.Command(self, "-role", name, "-address", address, "-dir", dir, "-goroutines", fmt.Sprint(goroutines), "-seconds", fmt.Sprint(seconds))
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}

// report prints medians, and ratios within the repetitions.
func report(w io.Writer, goroutines int, measured map[string][]measure) {
	fmt.Fprintf(w, "%d calls at a time\n\n| | CPU µs a call | allocations | bytes |\n|---|---|---|---|\n", goroutines)
	for _, name := range sortedKeys(measured) {
		of := func(f func(measure) float64) float64 { return median(each(measured[name], f)) }
		cpu := each(measured[name], func(m measure) float64 { return m.CPU })
		fmt.Fprintf(w, "| %s | %.1f [%.1f–%.1f] | %.1f | %.0f |\n", name, median(cpu), slices.Min(cpu), slices.Max(cpu),
			of(func(m measure) float64 { return m.Allocs }), of(func(m measure) float64 { return m.Bytes }))
	}
	fmt.Fprint(w, "\n| | ratio of CPU | goal |\n|---|---|---|\n")
	for _, c := range all {
		if len(measured[c.ours]) == 0 {
			continue
		}
		var ratios []float64
		for i := range measured[c.ours] {
			ratios = append(ratios, measured[c.ours][i].CPU/measured[c.theirs][i].CPU)
		}
		goal := "–"
		if c.goal > 0 {
			goal = fmt.Sprintf("≤ %.2f", c.goal)
		}
		fmt.Fprintf(w, "| %s | %.2f [%.2f–%.2f] | %s |\n", c.name, median(ratios), slices.Min(ratios), slices.Max(ratios), goal)
	}
}

func each(all []measure, f func(measure) float64) []float64 {
	out := make([]float64, len(all))
	for i, m := range all {
		out[i] = f(m)
	}
	return out
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func path(dir, name string) string { return filepath.Join(dir, name) }
