package grpcmesh

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

const (
	scheme = "mesh"
	prefix = scheme + ":///"
)

// Target gives the target of a channel to a host, "mesh:///ratings:9080" for "ratings:9080". Without a port
// it is port 80, as in a URL.
func Target(host string) string { return prefix + host }

// A target is what a channel is to.
type target struct {
	authority string // as the program wrote it
	host      string // canonical
	port      uint16
}

// parseTarget reads the target string of a channel. It does not allocate for what Target makes.
func parseTarget(s string) (target, error) {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok || strings.ContainsAny(rest, "%?#") {
		u, err := url.Parse(s)
		if err != nil {
			return target{}, fmt.Errorf("target %q: %w", s, err)
		}
		if u.Scheme != scheme || u.Host != "" {
			return target{}, fmt.Errorf("target %q: a target of the mesh is %shost:port, see grpcmesh.Target", s, prefix)
		}
		rest = strings.TrimPrefix(u.Path, "/")
	}
	host, port, err := call.SplitAuthority(rest)
	if err != nil {
		return target{}, fmt.Errorf("target %q: %w", s, err)
	}
	if port == 0 {
		port = 80
	}
	return target{rest, host, port}, nil
}
