package call_test

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/heddlemesh/mesh/call"
)

// TestSplitAuthority has the spellings of attacks.md rows B-033 and B-034 among ordinary ones.
func TestSplitAuthority(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	long := label + "." + label + "." + label + "." + label[:61] // 253 bytes
	for name, c := range map[string]struct {
		authority string
		host      string
		port      uint16
	}{
		"name":               {"reviews", "reviews", 0},
		"name and port":      {"reviews:9080", "reviews", 9080},
		"full name":          {"reviews.default.svc.cluster.local:80", "reviews.default.svc.cluster.local", 80},
		"empty port":         {"h:", "h", 0},
		"zeros before":       {"h:0080", "h", 80},
		"largest port":       {"h:65535", "h", 65535},
		"upper case":         {"ReViews.Example:80", "reviews.example", 80},
		"trailing dot":       {"H.", "h", 0},
		"dot and port":       {"h.example.:443", "h.example", 443},
		"underscore":         {"foo_bar", "foo_bar", 0},
		"punycode":           {"xn--bcher-kva.example", "xn--bcher-kva.example", 0},
		"digits":             {"1", "1", 0},
		"IPv4":               {"10.0.0.1:80", "10.0.0.1", 80},
		"IPv6":               {"[::1]", "::1", 0},
		"mapped IPv4":        {"[::ffff:10.0.0.1]:80", "10.0.0.1", 80},
		"IPv6 and port":      {"[2001:DB8:0:0::1]:80", "2001:db8::1", 80},
		"IPv6 and no port":   {"[::1]:", "::1", 0},
		"label of 63":        {label, label, 0},
		"name of 253":        {long, long, 0},
		"name of 253 dotted": {long + ".", long, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, port, err := call.SplitAuthority(c.authority)
			if host != c.host || port != c.port || err != nil {
				t.Errorf("SplitAuthority(%q) = %q, %d, %v; want %q, %d", c.authority, host, port, err, c.host, c.port)
			}
		})
	}
}

func TestSplitAuthorityRefuses(t *testing.T) {
	t.Parallel()
	for name, authority := range map[string]string{
		"empty":               "",
		"port only":           ":80",
		"dot":                 ".",
		"two dots":            "..",
		"leading dot":         ".h",
		"two trailing dots":   "h..",
		"empty label":         "a..b",
		"comma":               "a,b",
		"space":               "a b",
		"space around":        " h",
		"tab":                 "h\t",
		"user":                "u@h",
		"user and password":   "u:p@h",
		"path":                "h/p",
		"query":               "h?q",
		"fragment":            "h#f",
		"backslash":           `h\p`,
		"scheme":              "http://h",
		"escape":              "h%41",
		"port too large":      "h:99999",
		"port 65536":          "h:65536",
		"port zero":           "h:0",
		"port of zeros":       "h:000",
		"port with a plus":    "h:+80",
		"port with a minus":   "h:-80",
		"port with a space":   "h: 80",
		"port of letters":     "h:http",
		"hexadecimal port":    "h:0x50",
		"two ports":           "h:80:80",
		"IPv6 without []":     "::1",
		"IPv6 zone":           "[fe80::1%25lo]:80",
		"IPv6 raw zone":       "[fe80::1%lo]:80",
		"IPv6 not closed":     "[::1",
		"IPv6 not opened":     "::1]",
		"IPv6 then text":      "[::1]x",
		"IPv6 then digits":    "[::1]80",
		"IPv4 in brackets":    "[10.0.0.1]",
		"empty brackets":      "[]",
		"name in brackets":    "[h]",
		"future address":      "[v1.x]",
		"wildcard":            "*",
		"wildcard prefix":     "*.example",
		"NUL":                 "h\x00",
		"line feed":           "h\nHost: x",
		"raw UTF-8":           "bücher.example",
		"fullwidth dot":       "a．b",
		"invalid UTF-8":       "h\xff",
		"leading hyphen":      "-a",
		"trailing hyphen":     "a-.b",
		"punycode hyphen":     "xn--example-.com",
		"label of 64":         strings.Repeat("a", 64),
		"name of 254":         strings.Repeat("a.", 126) + "ab",
		"very long":           strings.Repeat("a.", 100_000),
		"label of 64, dotted": strings.Repeat("a", 64) + ".b",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, port, err := call.SplitAuthority(authority)
			if err == nil || host != "" || port != 0 {
				t.Fatalf("SplitAuthority(%q) = %q, %d, %v; want an error", authority, host, port, err)
			}
			if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x00\n") || !utf8.ValidString(err.Error()) {
				t.Errorf("the error is not fit to log: %q", err)
			}
		})
	}
}

func TestSplitAuthorityAllocatesNothingWhereCanonical(t *testing.T) {
	n := testing.AllocsPerRun(100, func() {
		if _, _, err := call.SplitAuthority("reviews.default.svc.cluster.local:9080"); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSplitAuthority(f *testing.F) {
	for _, s := range []string{
		"", "h", "H.:0080", "h..", "a,b", "[::1]:80", "[fe80::1%25lo]:80", "u@h", "h:99999", "xn--a", "a-.b",
		"10.0.0.1", "[::ffff:10.0.0.1]", "h:0", "h:", "[", "]", ":", "h:80:80", strings.Repeat("a.", 130),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		host, port, err := call.SplitAuthority(authority)
		if err != nil {
			if host != "" || port != 0 {
				t.Fatalf("%q: an error and %q, %d", authority, host, port)
			}
			return
		}
		if host == "" || len(host) > 253 || host != strings.ToLower(host) || strings.HasSuffix(host, ".") ||
			strings.ContainsAny(host, " ,/@#?%[]\\\x00") {
			t.Fatalf("%q: the host %q is not canonical", authority, host)
		}
		again := host
		if strings.Contains(host, ":") {
			again = "[" + host + "]"
		}
		if h, p, err := call.SplitAuthority(again); h != host || p != 0 || err != nil {
			t.Fatalf("%q: the host %q splits to %q, %d, %v", authority, host, h, p, err)
		}
		if port != 0 {
			joined := net.JoinHostPort(host, strconv.Itoa(int(port)))
			if h, p, err := call.SplitAuthority(joined); h != host || p != port || err != nil {
				t.Fatalf("%q: %q splits to %q, %d, %v", authority, joined, h, p, err)
			}
		}
	})
}
