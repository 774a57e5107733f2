package cli

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/internal/netns"
)

// What the sidecar may have in the tests below, and what the kernel ends it at.
const (
	softMemory = "GOMEMLIMIT=128MiB"
	hardMemory = 160 << 20
)

// confined starts a sidecar before the handler, with an identity, whose memory is bounded. It gives the files of the identity too.
func confined(t *testing.T, h http.Handler, args ...string) (m measured, group *cgroup, id string) {
	t.Helper()
	group = newCgroup(t, "memory")
	group.set("memory.max", "memory.limit_in_bytes", fmt.Sprint(hardMemory))
	id = filepath.Join(t.TempDir(), "id")
	if r := heddle(t, "", "ca", "sign", caDir(t), "default/ratings", "--out", id); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, full := group.command(self, slices.Concat([]string{"proxy", "--config", configDir(t, "127.0.0.1:1"), "--inbound", loopback.Free(t) + "=" + upstreamOf(t, h),
		"--svid", filepath.Join(id, "svid.pem"), "--svid-key", filepath.Join(id, "key.pem"), "--svid-bundle", filepath.Join(id, "bundle.pem")}, apart, args)...)
	p := spawnProgram(t, []string{testRole + "=1", softMemory}, program, full...)
	m = measured{p, p.addresses()}
	return m, group, id
}

// An opener opens a connection, and has one request on it answered.
type opener func(address string) (net.Conn, int, error)

// openHTTP1 is HTTP/1.1, within TLS where there is a configuration.
func openHTTP1(config *tls.Config) opener {
	return func(address string) (net.Conn, int, error) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return nil, 0, err
		}
		if config != nil {
			c = tls.Client(c, config)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
		if err != nil {
			_ = c.Close()
			return nil, 0, err
		}
		return c, resp.StatusCode, nil
	}
}

// openHTTP2 is HTTP/2 without TLS.
func openHTTP2(address string) (net.Conn, int, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, 0, err
	}
	status, err := askHTTP2(c)
	if err != nil {
		_ = c.Close()
		return nil, 0, err
	}
	return c, status, nil
}

func askHTTP2(c net.Conn) (status int, err error) {
	var block strings.Builder
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	f := http2.NewFramer(c, bufio.NewReaderSize(c, 512))
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, _ = io.WriteString(c, http2.ClientPreface)
	if err := errors.Join(f.WriteSettings(), f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true, EndStream: true})); err != nil {
		return 0, err
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			_, err = fmt.Sscan(frame.PseudoValue("status"), &status)
		case *http2.RSTStreamFrame:
			err = errors.New(frame.ErrCode.String())
		}
		if err != nil {
			return 0, err
		}
		if frame.Header().StreamID == 1 && frame.Header().Flags.Has(http2.FlagDataEndStream) {
			return status, nil
		}
	}
}

// mutual is the TLS of a caller that has the files' identity.
func mutual(t *testing.T, id string) *tls.Config {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(id, "svid.pem"), filepath.Join(id, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{"istio-http/1.1", "http/1.1"}, MinVersion: tls.VersionTLS13}
}

// TestLifeIdle: idle connections under GOMEMLIMIT=128MiB in a control group of 160 MiB, of HTTP/1, HTTP/2 and mutual TLS, as many as it takes: the
// kernel ends nothing, whoever is let in is answered, those that there is no memory for are turned away, requests on the others go on or
// are shed, and when they have gone all is as before (E-015). make life has 10,000 of each.
func TestLifeIdle(t *testing.T) {
	for _, kind := range []string{"HTTP/1.1", "HTTP/2", "mutual TLS"} {
		t.Run(kind, func(t *testing.T) { testIdle(t, kind, times(t, "HEDDLE_LIFE_IDLE", 30)) })
	}
}

func testIdle(t *testing.T, kind string, n int) {
	m, group, id := confined(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	open := map[string]opener{"HTTP/1.1": openHTTP1(nil), "HTTP/2": openHTTP2, "mutual TLS": openHTTP1(mutual(t, id))}[kind]
	before, _ := m.pss(t)
	var all []net.Conn
	away, shed := 0, 0 // in a row; shed
	for len(all) < n && away < 50 {
		c, status, err := open(m.at["inbound"])
		switch {
		case err == nil && status == http.StatusOK:
			all = append(all, c)
			away = 0
		case err == nil && status == http.StatusServiceUnavailable:
			_ = c.Close()
			shed++
			away++
		case err != nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
			away++
		default:
			t.Fatalf("after %d connections: %d, %v", len(all), status, err)
		}
	}
	after, peak := m.pss(t)
	if len(all) == 0 {
		t.Fatal(m.said())
	}
	// Nobody who has been let in is cut off: each is answered again, or told that memory is scarce.
	answered, refused := 0, 0
	for i, c := range all {
		if i%max(1, len(all)/200) != 0 || kind == "HTTP/2" {
			continue
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
		switch {
		case err != nil:
			t.Fatalf("connection %d: %v", i, err)
		case resp.StatusCode == http.StatusOK:
			answered++
		case resp.StatusCode == http.StatusServiceUnavailable:
			refused++
		default:
			t.Fatalf("connection %d: %s", i, resp.Status)
		}
	}
	t.Logf("%d idle connections of %s (%d asked for): %.1f KiB of PSS each, %.1f MB in all, largest RSS %.1f MB; %d shed before; of those asked again %d answered, %d shed",
		len(all), kind, n, float64(after-before)/float64(len(all))/1024, mb(after), mb(peak), shed, answered, refused)
	for _, c := range all {
		_ = c.Close()
	}
	for { // all is as before
		c, status, err := open(m.at["inbound"])
		if c != nil {
			_ = c.Close()
		}
		if err == nil && status == http.StatusOK {
			break
		}
	}
	if killed := group.killed(); killed > 0 {
		t.Errorf("the kernel has ended %d", killed)
	}
}

// TestLifeBodies: downloads that nobody reads and uploads that the program does not read, 10 MB each, under the same bounds: the
// kernel ends nothing, and each is passed on whole in the end, or was refused with 503 or before it was begun (E-016). make life has 1,000 of each.
// It asks for a network namespace (HEDDLE_NETNS=1), where sockets hold little: with the machine's buffers most bytes would lie in the kernel, which has one
// bound for all (tcp_mem), and lets connections stand for minutes when that is reached.
func TestLifeBodies(t *testing.T) {
	if os.Getenv("HEDDLE_NETNS") != "" {
		if !netns.Enter(t) {
			return
		}
		for _, name := range []string{"tcp_rmem", "tcp_wmem"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte("4096 131072 262144"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	n, size := times(t, "HEDDLE_LIFE_BODIES", 10), int64(times(t, "HEDDLE_LIFE_BODY", 1<<20))
	read := make(chan struct{})
	m, group, _ := confined(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			download{size}.ServeHTTP(w, r)
			return
		}
		<-read
		if got, err := io.Copy(io.Discard, r.Body); got != size || err != nil {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	var all sync.WaitGroup
	var whole, shed, away atomic.Int64
	for i := range 2 * n { // one after the other: no more than a thousand may be connected and have said nothing
		head := "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
		if i%2 == 0 {
			head = fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", size)
		}
		c, err := net.Dial("tcp", m.at["inbound"])
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, head)
		all.Go(func() {
			defer c.Close()
			if i%2 == 0 {
				all.Go(func() { _, _ = io.Copy(c, io.LimitReader(new(counting), size)) })
			} else {
				<-read
			}
			got, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				away.Add(1)
				return
			}
			defer got.Body.Close()
			bytes, err := io.Copy(io.Discard, got.Body)
			switch {
			case got.StatusCode == http.StatusServiceUnavailable:
				shed.Add(1)
			case got.StatusCode != http.StatusOK || err != nil || i%2 == 1 && bytes != size:
				t.Errorf("%s, %d bytes, %v", got.Status, bytes, err)
			default:
				whole.Add(1)
			}
		})
	}
	var held int64
	for last := int64(-1); held > last+last/100; { // until it grows no more
		last = held
		<-time.After(min(time.Second, time.Duration(n)*10*time.Millisecond))
		held, _ = m.pss(t)
	}
	close(read)
	all.Wait()
	_, peak := m.pss(t)
	t.Logf("%d downloads and %d uploads of %d bytes that nobody reads: PSS %.1f MB, largest RSS %.1f MB; %d whole, %d shed with 503, %d turned away", n, n, size, mb(held), mb(peak), whole.Load(), shed.Load(), away.Load())
	if whole.Load() == 0 || whole.Load()+shed.Load()+away.Load() != int64(2*n) {
		t.Error("they do not add up")
	}
	if n := overloads(t, m); shed.Load()+away.Load() > n { // who is sent 503 may have gone before
		t.Errorf("%d were refused for want of memory, but %d were turned away", n, shed.Load()+away.Load())
	}
	if killed := group.killed(); killed > 0 {
		t.Errorf("the kernel has ended %d", killed)
	}
	for {
		c, status, err := openHTTP1(nil)(m.at["inbound"])
		if c != nil {
			_ = c.Close()
		}
		if err == nil && status == http.StatusOK {
			break
		}
	}
}

// overloads gives how many connections and requests the inbound listener has refused for want of memory.
func overloads(t *testing.T, m measured) (n int64) {
	t.Helper()
	resp, err := http.Get("http://" + m.at["admin"] + "/stats/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	counts := regexp.MustCompile(`^(?:envoy_listener_downstream_cx_overload_reject\{direction="inbound".*\}|heddle_proxy_local_replies_total\{direction="inbound",flag="OM".*\}) (\d+)$`)
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if found := counts.FindStringSubmatch(s.Text()); found != nil {
			k, err := strconv.ParseInt(found[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}
	return n
}
