package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// An upstreamRecord is an upstream of the hunt: it answers every request with its target in X-Seen, and remembers it.
type upstreamRecord struct {
	address string
	eager   bool            // it answers, and remembers, before it has read the body
	seen    func() []string // all targets, once the hunt is over
}

// recorders are the readers that a request may be split by, and each one's part of the hunt in percent.
var recorders = []struct {
	name  string
	part  int
	start func(testing.TB) upstreamRecord
}{
	{"go", 40, goRecorder},
	{"nginx", 35, nginxRecorder},
	{"python", 10, pythonRecorder},
}

// answersPart is what is left for mutated answers.
const answersPart = 15

// huntSize is how many exchanges there are in all: HEDDLE_DESYNC, or few enough to wait for.
func huntSize(tb testing.TB) int {
	if v := os.Getenv("HEDDLE_DESYNC"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			tb.Fatal(err)
		}
		return n
	}
	if testing.Short() || raceEnabled {
		return 1000
	}
	return 8000
}

// TestDesync hunts for a request that client, sidecar and endpoint see differently: mutated requests, each followed by an
// ordinary one on the same connection, all with an identity. What the client is answered belongs to what it asked, one for
// one and in order; the endpoint sees no more than is asked, and nothing twice; nothing within a body is ever a request.
// How many requests a text holds is net/http's to say. HEDDLE_DESYNC sets how many there are; only with it programs other
// than Go's are upstreams.
func TestDesync(t *testing.T) {
	t.Parallel()
	n := huntSize(t)
	for _, rec := range recorders {
		t.Run(rec.name, func(t *testing.T) {
			if rec.name != "go" && os.Getenv("HEDDLE_DESYNC") == "" {
				t.Skip("HEDDLE_DESYNC is not set: the tests need nothing but Go")
			}
			up := rec.start(t)
			_, addresses := both(t, up.address)
			h := &hunt{t: t, addresses: addresses, eager: up.eager, asked: make(map[string][]string)}
			h.run(n * rec.part / 100)
			h.judge(up.seen())
		})
	}
}

// A hunt is what was asked and answered of one upstream.
type hunt struct {
	t         *testing.T
	addresses map[string]string
	eager     bool // see upstreamRecord

	mu       sync.Mutex
	asked    map[string][]string // by identity: the kinds of requests that net/http reads
	answered []string            // kind and identity
	texts    int
}

const hunters = 4

func (h *hunt) run(n int) {
	var wg sync.WaitGroup
	for worker := range hunters {
		wg.Go(func() {
			src := rand.New(rand.NewPCG(uint64(worker), 4))
			for i := worker; i < n && !h.t.Failed(); i += hunters {
				side := []string{"outbound", "inbound"}[src.IntN(2)]
				id := fmt.Sprint("n", i, "n")
				text := mutatedRequest(src, id) + "GET /second/" + id + "/ HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n"
				h.exchange(side, id, text)
			}
		})
	}
	wg.Wait()
}

// exchange sends a text and looks at the answers.
func (h *hunt) exchange(side, id, text string) {
	all, err := converse(h.addresses[side], text)
	if err != nil {
		h.t.Errorf("%s: %v, of %q", side, err, text)
		return
	}
	asked := kindsOf(text, h.eager)
	var got []string
	for _, part := range strings.Split(all, "X-Seen: ")[1:] {
		target, _, _ := strings.Cut(part, "\r\n")
		kind, of := identify(target)
		if of != id {
			h.t.Errorf("%s: the answer to %q is about %q", side, text, target)
		}
		got = append(got, kind)
	}
	// The sidecar answers some by itself, and the client ends its half at once, so that an answer may be lost with the
	// connection; but none is invented.
	if !inOrder(got, asked) {
		h.t.Errorf("%s: the client got answers to %q, asked %q, by %q", side, got, asked, text)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.texts++
	h.asked[id] = asked
	for _, kind := range got {
		h.answered = append(h.answered, kind+id)
	}
}

// judge compares all that the upstream saw with what it was asked.
func (h *hunt) judge(seen []string) {
	saw := make(map[string][]string) // the kinds, by identity
	count := make(map[string]int)
	for _, target := range seen {
		kind, id := identify(target)
		if id == "" {
			h.t.Errorf("the endpoint saw %q, which nobody asked", target)
			continue
		}
		saw[id] = append(saw[id], kind)
		count[kind+id]++
	}
	for id, kinds := range saw {
		if !inOrder(kinds, h.asked[id]) {
			h.t.Errorf("of %s the endpoint saw %q, asked was %q", id, kinds, h.asked[id])
		}
	}
	for key, n := range count {
		if n > 1 {
			h.t.Errorf("the endpoint saw %s %d times", key, n)
		}
	}
	for _, key := range h.answered {
		if count[key] != 1 {
			h.t.Errorf("%s was answered, the endpoint saw it %d times", key, count[key])
		}
	}
	if len(h.answered) == 0 {
		h.t.Error("nothing was answered")
	}
	h.t.Logf("%d texts, %d requests seen, %d answers", h.texts, len(seen), len(h.answered))
}

var identity = regexp.MustCompile(`/(n\d+n)/`)

// identify gives the kind and the identity of a request by its target. A mutated target is that of the first request.
func identify(target string) (kind, id string) {
	m := identity.FindStringSubmatch(strings.ReplaceAll(target, "\\", "/"))
	if m == nil {
		return "", ""
	}
	for _, kind := range []string{"inner", "second"} {
		if strings.HasPrefix(target, "/"+kind+"/") {
			return kind, m[1]
		}
	}
	return "first", m[1]
}

// kindsOf gives the kinds of requests that net/http reads in a text; one whose body is none counts where broken says so.
func kindsOf(text string, broken bool) []string {
	var kinds []string
	br := bufio.NewReader(strings.NewReader(text))
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return kinds
		}
		kind, _ := identify(req.RequestURI)
		_, err = io.Copy(io.Discard, req.Body)
		if err == nil || broken {
			kinds = append(kinds, kind)
		}
		if err != nil {
			return kinds
		}
	}
}

// inOrder reports whether all of some stand in all, in that order.
func inOrder(some, all []string) bool {
	for _, one := range some {
		at := slices.Index(all, one)
		if at < 0 {
			return false
		}
		all = all[at+1:]
	}
	return true
}

// mutatedRequest makes a request that may be none, whose body may look like one.
func mutatedRequest(src *rand.Rand, id string) string {
	pick := func(from ...string) string { return from[src.IntN(len(from))] }
	inner := "GET /inner/" + id + "/ HTTP/1.1\r\nHost: reviews\r\n\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inner), inner)
	body := pick("", "hello", inner, "5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n"+inner, chunk, "5;x=\"\r\n\"\r\nhello\r\n0\r\n\r\n")
	length := strconv.Itoa(len(body))
	framing := ""
	for range 1 + src.IntN(2) {
		framing += pick("Content-Length: "+length, "Content-Length: "+length, "Content-Length: 0", "Content-Length: +"+length, "Content-Length: "+length+",0",
			"Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "Transfer-Encoding: Chunked", "Transfer-Encoding:\tchunked", "Transfer-Encoding: chunked, identity",
			"Transfer-Encoding: x", "Transfer-Encoding : chunked", "Transfer_Encoding: chunked", "X: y", "Connection: content-length", "Connection: transfer-encoding",
			"Content-Length: 0x5", "Content-Length:", "Expect: 100-continue", "Upgrade: websocket\r\nConnection: upgrade") + pick("\r\n", "\r\n", "\r\n", "\n", "\r\n ", "\r")
	}
	if src.IntN(2) == 0 { // one that is sound but for the byte below
		framing = "Content-Length: " + length + "\r\n"
		if src.IntN(2) == 0 {
			framing, body = "Transfer-Encoding: chunked\r\n", chunk
		}
	}
	line := pick("GET", "POST", "PUT", "HEAD", "OPTIONS") + " /first/"
	begin := len(line) - 1
	text := line + id + "/" + pick("", "", "", "?", "?x", "#", " ") + " HTTP/1." + pick("1", "1", "1", "1", "1", "1", "0", "2") + "\r\nHost: reviews\r\n" + framing + "\r\n" + body
	if src.IntN(4) > 0 {
		return text
	}
	at := src.IntN(len(text)) // one byte changed, gone or twice, but not of the identity
	inside := strings.Index(text, "/inner/")
	if at >= begin && at <= begin+len(id)+1 || inside > 0 && at >= inside && at <= inside+len("/inner/")+len(id) {
		return text
	}
	return text[:at] + pick("", string(rune(src.IntN(128))), text[at:at+1]+text[at:at+1]) + text[at+1:]
}

// converse sends a text on a connection of its own and gives all that comes back.
func converse(address, text string) (string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	_, _ = io.WriteString(c, text)
	_ = c.(*net.TCPConn).CloseWrite()
	all, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", err
	}
	return string(all), nil // a connection that is cut is an answer too
}

func goRecorder(t testing.TB) upstreamRecord {
	var mu sync.Mutex
	var seen []string
	address := raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			mu.Lock()
			seen = append(seen, req.RequestURI)
			mu.Unlock()
			if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Seen: %s\r\nContent-Length: 0\r\n\r\n", req.RequestURI); err != nil {
				return
			}
		}
	})
	return upstreamRecord{address, false, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}}
}

func nginxRecorder(t testing.TB) upstreamRecord {
	program, err := exec.LookPath("nginx")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/nginx") // not in everybody's PATH
	}
	if err != nil {
		t.Skip("there is no nginx")
	}
	dir := t.TempDir()
	config, err := os.ReadFile("testdata/recorder.conf")
	if err != nil {
		t.Fatal(err)
	}
	address := loopback.Free(t)
	_, port, _ := net.SplitHostPort(address)
	path := filepath.Join(dir, "conf")
	if err := os.WriteFile(path, []byte(strings.NewReplacer("DIR", dir, "PORT", port).Replace(string(config))), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, exec.Command(program, "-p", dir, "-e", filepath.Join(dir, "error"), "-c", path))
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	return upstreamRecord{address, true, func() []string {
		seen := lines(t, filepath.Join(dir, "seen"))
		for i, line := range seen { // of requests that it refuses too
			if _, rest, ok := strings.Cut(line, " /"); ok {
				seen[i], _, _ = strings.Cut("/"+rest, " ")
			}
		}
		return seen
	}}
}

func pythonRecorder(t testing.TB) upstreamRecord {
	program, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	path := filepath.Join(t.TempDir(), "seen")
	cmd := exec.Command(program, "testdata/recorder.py", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // it ends with us
		t.Fatal(err)
	}
	launch(t, cmd)
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return upstreamRecord{"127.0.0.1:" + strings.TrimSpace(port), false, func() []string { return lines(t, path) }}
}

// launch runs a program until the test ends.
func launch(t testing.TB, cmd *exec.Cmd) {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// lines gives the lines of a recorder's file.
func lines(t testing.TB, path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// TestDesyncAnswers is the hunt from the other side: answers that are mutated, or followed by what looks like another.
// Whatever a client gets is about what it asked.
func TestDesyncAnswers(t *testing.T) {
	t.Parallel()
	n := huntSize(t) * answersPart / 100
	var made atomic.Uint64
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		src := rand.New(rand.NewPCG(made.Add(1), 5))
		for {
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // an answer that is not whole ends then
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			text, ends := mutatedAnswer(src, req.RequestURI, req.Method)
			if _, err := io.WriteString(c, text); err != nil || ends {
				return
			}
		}
	})
	_, addresses := both(t, up)
	var whole, refused atomic.Int64
	var wg sync.WaitGroup
	for worker := range hunters {
		wg.Go(func() {
			src := rand.New(rand.NewPCG(uint64(worker), 6))
			for i := worker; i < n && !t.Failed(); i += hunters {
				side := []string{"outbound", "inbound"}[src.IntN(2)]
				method := []string{http.MethodGet, http.MethodGet, http.MethodHead}[src.IntN(3)]
				text := ""
				for k := range 3 {
					text += fmt.Sprintf("%s /%d/%d HTTP/1.1\r\nHost: reviews\r\n\r\n", method, i, k)
				}
				c, err := net.Dial("tcp", addresses[side])
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				_, _ = io.WriteString(c, text)
				br := bufio.NewReader(c)
				for k := range 3 {
					resp, err := finalAnswer(br, method)
					if err != nil {
						break // it was cut off
					}
					if about := resp.Header.Get("X-Seen"); about == "" {
						refused.Add(1)
					} else if about != fmt.Sprintf("/%d/%d", i, k) {
						t.Errorf("%s: the answer to /%d/%d is about %s", side, i, k, about)
					} else {
						whole.Add(1)
					}
					if _, err := io.Copy(io.Discard, resp.Body); err != nil {
						break
					}
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	if whole.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d answers passed, %d did not: the mutations test nothing", whole.Load(), refused.Load())
	}
	t.Logf("%d conversations, %d answers passed on, %d replaced", n, whole.Load(), refused.Load())
}

func finalAnswer(br *bufio.Reader, method string) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil || resp.StatusCode >= 200 {
			return resp, err
		}
	}
}

// mutatedAnswer makes an answer about a target that may be none, and what an attacker would put behind it. ends says that
// the connection does.
func mutatedAnswer(src *rand.Rand, target, method string) (text string, ends bool) {
	pick := func(from ...string) string { return from[src.IntN(len(from))] }
	seen := "X-Seen: " + target + "\r\n"
	const poison = "HTTP/1.1 200 OK\r\nX-Seen: poison\r\nContent-Length: 0\r\n\r\n"
	body := pick("", "hello", poison, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(poison), poison), "0\r\n\r\n")
	length := strconv.Itoa(len(body))
	framing := pick("Content-Length: "+length+"\r\n", "Content-Length: "+length+"\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n",
		"Transfer-Encoding: chunked\r\nContent-Length: "+length+"\r\n", "Content-Length: "+length+"\r\nContent-Length: 0\r\n", "Transfer-Encoding: gzip\r\n",
		"Transfer-Encoding : chunked\r\n", "Content-Length: -1\r\n", "Content-Length: "+length+"\n", "")
	status := pick("200 OK", "200 OK", "200 OK", "200 OK", "204 No Content", "304 Not Modified", "404 Not Found", "500 No", "099 Low", "600 High", "101 Switching Protocols", "20 OK")
	text = "HTTP/1.1 " + status + "\r\n" + seen + framing + "\r\n"
	if method != http.MethodHead || src.IntN(4) == 0 {
		text += body
	}
	if src.IntN(4) == 0 {
		text += poison // unasked
	}
	if src.IntN(8) == 0 {
		text = "HTTP/1.1 103 Early Hints\r\n\r\n" + text
	}
	begin := strings.Index(text, target)
	if at := src.IntN(len(text)); src.IntN(4) == 0 && (at < begin-len("\r\nX-Seen: ") || at > begin+len(target)+1) {
		text = text[:at] + pick("", string(rune(src.IntN(128))), text[at:at+1]+text[at:at+1]) + text[at+1:]
	}
	return text, framing == "" || src.IntN(3) == 0
}
