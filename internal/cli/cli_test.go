package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A result is what one run of the command left.
type result struct {
	code           int
	stdout, stderr string
}

func heddle(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// files writes files into a new directory and makes it the working directory, so that findings name them the
// same on every machine.
func files(t *testing.T, texts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

// same compares a text with what was expected of it, the common newline at its beginning left aside.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	if want = strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	explain := []string{"explain", "--config", "testdata/bookinfo"}
	for _, c := range []struct {
		name string
		args []string
		says string // the first line of stderr
	}{
		{"unknown command", []string{"analize"}, `unknown command "analize" for "heddle"`},
		{"unknown flag", []string{"analyze", "--bogus", "."}, "unknown flag: --bogus"},
		{"no path", []string{"analyze"}, "no path given; for the directory you are in: heddle analyze ."},
		{"empty path", []string{"analyze", ""}, "a path is empty"},
		{"output", []string{"analyze", "-o", "yaml", "."}, `invalid argument "yaml" for "-o, --output" flag: expected one of log, json`},
		{"threshold", []string{"analyze", "--failure-threshold", "Fatal", "."},
			`invalid argument "Fatal" for "--failure-threshold" flag: expected one of Info, Warning, Error`},
		{"code", []string{"analyze", "-S", "IST101", "."},
			`invalid argument "IST101" for "-S, --suppress" flag: expected a code such as IST0101, or CODE=Kind namespace/name`},
		{"suppressed document", []string{"analyze", "-S", "IST0101=reviews", "."},
			`invalid argument "IST0101=reviews" for "-S, --suppress" flag: expected CODE=Kind namespace/name or CODE=Kind name.namespace`},
		{"suppressed pattern", []string{"analyze", "-S", "IST0101=VirtualService shop/[", "."},
			`invalid argument "IST0101=VirtualService shop/[" for "-S, --suppress" flag: expected CODE=Kind namespace/name or CODE=Kind name.namespace`},
		{"workload", []string{"analyze", "--workload", "Shop/", "."},
			`invalid argument "Shop/" for "--workload" flag: expected namespace or namespace/name, in lower case letters, digits and '-'`},
		{"labels", []string{"analyze", "--labels", "app", "."}, `invalid argument "app" for "--labels" flag: "app" is not a label: expected key=value`},
		{"no URL", explain, "no URL given"},
		{"two URLs", append(explain, "a", "b"), "expected one URL, found 2"},
		{"no config", []string{"explain", "reviews"}, "no --config given; for the directory you are in: --config ."},
		{"empty config", []string{"explain", "--config", "", "reviews"}, "a path is empty"},
		{"no colon", append(explain, "-H", "end-user", "reviews"), `invalid argument "end-user" for "-H, --header" flag: expected 'name: value'`},
		{"header name", append(explain, "-H", "end user: jason", "reviews"),
			`invalid argument "end user: jason" for "-H, --header" flag: "end user" is not a header name`},
		{"pseudo-header", append(explain, "-H", ":authority: x", "reviews"), `invalid argument ":authority: x" for "-H, --header" flag: "" is not a header name`},
		{"header value", append(explain, "-H", "a: b\r\nc: d", "reviews"),
			`invalid argument "a: b\r\nc: d" for "-H, --header" flag: the value has a control character`},
		{"method", append(explain, "-X", "G(T", "reviews"), `net/http: invalid method "G(T"`},
		{"scheme", append(explain, "ftp://reviews/"), "ftp://reviews/: expected an http or https URL"},
		{"no host", append(explain, "/reviews"), "http:///reviews: the URL has no host"},
		{"port", append(explain, "reviews:99999"), `explain: http "reviews:99999" is not a host of a mesh`},
		{"URL", append(explain, "http://reviews/%zz"), `parse "http://reviews/%zz": invalid URL escape "%zz"`},
		{"version", []string{"version", "now"}, `unknown command "now" for "heddle version"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := heddle(t, "", c.args...)
			if r.code != exitUsage || r.stdout != "" {
				t.Errorf("exit code %d, stdout %q", r.code, r.stdout)
			}
			first, rest, _ := strings.Cut(r.stderr, "\n")
			same(t, "stderr", first, "heddle: "+c.says)
			if !strings.Contains(rest, "Usage: heddle") || !strings.Contains(rest, "--help\".\n") {
				t.Errorf("stderr goes on %q", rest)
			}
		})
	}
}

// TestHelp: every command has a help text with examples, on stdout.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"--help"}, {"help", "analyze"}, {"analyze", "-h"}, {"explain", "--help"}, {"version", "--help"}} {
		r := heddle(t, "", args...)
		if r.code != exitOK || r.stderr != "" || !strings.Contains(r.stdout, "Examples:\n  heddle ") {
			t.Errorf("%q: exit code %d, stderr %q, stdout:\n%s", args, r.code, r.stderr, r.stdout)
		}
	}
}

// TestInterrupt: a command that waits for input ends when it is told to, and says so.
func TestInterrupt(t *testing.T) {
	for _, args := range [][]string{{"analyze", "-"}, {"explain", "--config", "-", "reviews"}} {
		ctx, cancel := context.WithCancel(t.Context())
		stdin, w := io.Pipe()
		context.AfterFunc(t.Context(), func() { w.Close() })
		var stdout, stderr bytes.Buffer
		code := make(chan int)
		go func() { code <- run(ctx, args, stdin, &stdout, &stderr) }()
		if _, err := w.Write([]byte("a: b\n")); err != nil { // it is reading now
			t.Fatal(err)
		}
		cancel()
		if got := <-code; got != exitInterrupted {
			t.Errorf("%q: exit code %d", args, got)
		}
		same(t, "stderr", stderr.String(), "heddle: interrupted\n")
	}
	if r := run(ended(t), []string{"analyze", "testdata/bookinfo"}, nil, io.Discard, io.Discard); r != exitInterrupted {
		t.Errorf("exit code %d after the end of its context", r)
	}
}

func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

type failing struct{ error }

func (f failing) Write([]byte) (int, error) { return 0, f.error }
func (f failing) Read([]byte) (int, error)  { return 0, f.error }

// TestBrokenStreams: a result that could not be written is not a success, and input that could not be read
// is not an empty set.
func TestBrokenStreams(t *testing.T) {
	t.Parallel()
	full := failing{errors.New("no space left")}
	for _, args := range [][]string{
		{"analyze", "-o", "json", "testdata/bookinfo"},
		{"explain", "--config", "testdata/bookinfo", "reviews"},
		{"version"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, nil, full, &stderr); code != exitFailed {
			t.Errorf("%q: exit code %d", args, code)
		}
		same(t, "stderr", stderr.String(), "heddle: write result: no space left\n")
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"analyze", "-"}, failing{errors.New("bad disk")}, io.Discard, &stderr); code != exitInput {
		t.Errorf("exit code %d", code)
	}
	same(t, "stderr", stderr.String(), "heddle: read standard input: bad disk\n")
}

// TestNothingIsLeftBehind: the commands end what they start.
func TestNothingIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 5 {
		heddle(t, "", "analyze", "testdata/bookinfo", "-")
		heddle(t, "", "explain", "--config", "testdata/bookinfo", "--config", "-", "reviews:9080")
		heddle(t, "", "explain", "--config", "nowhere", "reviews:9080")
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}
