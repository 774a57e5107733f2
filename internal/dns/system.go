package dns

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// resolvConf is where a system says whom to ask (resolv.conf(5)).
const resolvConf = "/etc/resolv.conf"

// A system is what of that counts here. Of search domains it is the first, which resolvers try first.
type system struct {
	servers  []netip.AddrPort
	search   string // in small letters, without dots at its ends
	timeout  time.Duration
	attempts int
}

// The defaults: shorter than those of resolv.conf(5), whose clients wait for us so long that the next server can answer as well.
const (
	defaultTimeout  = 2 * time.Second
	defaultAttempts = 2
	mostServers     = 3
	mostSeconds     = 30
	mostAttempts    = 5
)

func readSystem(text string) system {
	s := system{timeout: defaultTimeout, attempts: defaultAttempts}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && len(s.servers) < mostServers {
				s.servers = append(s.servers, netip.AddrPortFrom(a, 53))
			}
		case "search", "domain":
			s.search = strings.Trim(strings.ToLower(f[1]), ".")
		case "options":
			for _, o := range f[1:] {
				if n, ok := option(o, "timeout:", mostSeconds); ok {
					s.timeout = time.Duration(n) * time.Second
				}
				if n, ok := option(o, "attempts:", mostAttempts); ok {
					s.attempts = n
				}
			}
		}
	}
	return s
}

func option(word, name string, most int) (int, bool) {
	text, ok := strings.CutPrefix(word, name)
	n, err := strconv.Atoi(text)
	return min(max(n, 1), most), ok && err == nil
}

// A systemFile is the file, read again when it has changed. It is safe for concurrent use.
type systemFile struct {
	path    string
	servers []netip.AddrPort // in the place of the file's
	now     func() time.Time

	mu     sync.Mutex // guards what follows
	looked time.Time
	stamp  time.Time
	size   int64
	last   system
}

// lookEvery is how often it is looked at, as Go's own resolver does.
const lookEvery = 5 * time.Second

func (f *systemFile) get() system {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if !f.looked.IsZero() && now.Sub(f.looked) < lookEvery {
		return f.last
	}
	first := f.looked.IsZero()
	f.looked = now
	info, err := os.Stat(f.path)
	switch {
	case err != nil && !first: // it is being replaced
		return f.last
	case err == nil && !first && info.ModTime().Equal(f.stamp) && info.Size() == f.size:
		return f.last
	}
	text := ""
	if err == nil {
		f.stamp, f.size = info.ModTime(), info.Size()
		b, _ := os.ReadFile(f.path) // what cannot be read names nobody
		text = string(b)
	}
	f.last = readSystem(text)
	if len(f.servers) > 0 {
		f.last.servers = f.servers
	}
	return f.last
}
