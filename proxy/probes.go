package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Probes are the application's own probes that the health listener makes in the place of a kubelet, by the path under which that asks
// for them: /app-health/<container>/livez, …/readyz or …/startupz. They must not change while they are used.
type Probes map[string]*Probe

// A Probe is one of Kubernetes' probes of a container (core/v1 Probe), of exactly one kind, on a port of the application. A host that it names
// is not looked at: it is made to the application and to nobody else.
type Probe struct {
	HTTPGet   *HTTPProbe `json:"httpGet"`
	TCPSocket *TCPProbe  `json:"tcpSocket"` // it succeeds where the port can be connected to
	GRPC      *GRPCProbe `json:"grpc"`
	// TimeoutSeconds ends it. Default: 1.
	TimeoutSeconds int `json:"timeoutSeconds"`
}

// An HTTPProbe succeeds where GET of Path is answered with a status from 200 to 399. HTTPS takes any certificate, as the kubelet does.
type HTTPProbe struct {
	Path    string        `json:"path"`
	Port    uint16        `json:"port"`
	Scheme  string        `json:"scheme"` // HTTP or HTTPS. Default: HTTP
	Headers []ProbeHeader `json:"httpHeaders"`
}

// A ProbeHeader is a header field of a probe's request.
type ProbeHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A TCPProbe is a port that takes connections.
type TCPProbe struct {
	Port uint16 `json:"port"`
}

// A GRPCProbe asks grpc.health.v1.Health for a service, "" for the server as a whole, and succeeds where that is SERVING.
type GRPCProbe struct {
	Port    uint16 `json:"port"`
	Service string `json:"service"`
}

const (
	maxProbes       = 256
	maxProbeSeconds = 3600
)

var probePath = regexp.MustCompile(`^/app-health/[A-Za-z0-9._-]+/(livez|readyz|startupz)$`)

// ParseProbes reads the JSON in which Istio's injector hands an application's probes to the sidecar (ISTIO_KUBE_APP_PROBERS):
//
//	{"/app-health/ratings/readyz": {"httpGet": {"path": "/health", "port": 9080}, "timeoutSeconds": 1}}
//
// Fields of Kubernetes that say when to probe are the kubelet's, and passed over. "" is no probes. The error names the path.
func ParseProbes(text string) (Probes, error) {
	if text == "" {
		return nil, nil
	}
	var p Probes
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, fmt.Errorf("read probes: %w", err)
	}
	if len(p) > maxProbes {
		return nil, fmt.Errorf("read probes: %d of them, at most %d", len(p), maxProbes)
	}
	for path, probe := range p {
		if !probePath.MatchString(path) {
			return nil, fmt.Errorf("read probes: %q: expected /app-health/<container>/ and livez, readyz or startupz", path)
		}
		if err := probe.check(); err != nil {
			return nil, fmt.Errorf("read probes: %s: %w", path, err)
		}
	}
	return p, nil
}

func (p *Probe) check() error {
	if p == nil {
		return errors.New("no probe")
	}
	kinds := 0
	for _, is := range []bool{p.HTTPGet != nil, p.TCPSocket != nil, p.GRPC != nil} {
		if is {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return errors.New("expected one of httpGet, tcpSocket, grpc")
	case p.port() == 0:
		return errors.New("port: expected a number from 1 to 65535")
	case p.TimeoutSeconds < 0 || p.TimeoutSeconds > maxProbeSeconds:
		return fmt.Errorf("timeoutSeconds: expected 0 to %d", maxProbeSeconds)
	case p.HTTPGet != nil:
		return p.HTTPGet.check()
	}
	return nil
}

func (h *HTTPProbe) check() error {
	switch strings.ToUpper(h.Scheme) {
	case "", "HTTP", "HTTPS":
	default:
		return fmt.Errorf("scheme: expected HTTP or HTTPS, found %q", h.Scheme)
	}
	_, err := http.NewRequest(http.MethodGet, h.url("127.0.0.1:1"), nil)
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	return nil
}

// url gives the URL of a probe at an address.
func (h *HTTPProbe) url(at string) string {
	scheme := "http"
	if strings.EqualFold(h.Scheme, "HTTPS") {
		scheme = "https"
	}
	return scheme + "://" + at + "/" + strings.TrimPrefix(h.Path, "/")
}

func (p *Probe) port() uint16 {
	switch {
	case p.HTTPGet != nil:
		return p.HTTPGet.Port
	case p.TCPSocket != nil:
		return p.TCPSocket.Port
	}
	return p.GRPC.Port
}

func (p *Probe) timeout() time.Duration { return time.Duration(max(p.TimeoutSeconds, 1)) * time.Second }
