package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/snapshot"
)

// The types below are values of flags: Set reads one, and its error is a usage error.

// A choice is one of a few words.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return errors.New("expected one of " + strings.Join(c.of, ", "))
	}
	c.value = s
	return nil
}

// outboundPolicy is a choice of MeshConfig.outboundTrafficPolicy.mode, by Istio's names.
func outboundPolicy() choice {
	return choice{mesh.AllowAny.String(), []string{mesh.AllowAny.String(), mesh.RegistryOnly.String()}}
}

func policyOf(c choice) mesh.OutboundTrafficPolicy {
	if c.value == mesh.RegistryOnly.String() {
		return mesh.RegistryOnly
	}
	return mesh.AllowAny
}

// presets is a choice of mesh.Preset.
func presets() choice { return choice{mesh.NoPreset.String(), config.PresetNames()} }

func presetOf(c choice) mesh.Preset {
	p, _ := config.PresetOf(c.value) // Set takes no other
	return p
}

// A level is a config.Level by its name, in either case.
type level struct{ config.Level }

func (*level) Type() string { return "Info|Warning|Error" }

func (l *level) Set(s string) error {
	for _, known := range []config.Level{config.Info, config.Warning, config.Error} {
		if strings.EqualFold(s, known.String()) {
			l.Level = known
			return nil
		}
	}
	return errors.New("expected one of Info, Warning, Error")
}

// A workload is namespace/name, or a namespace alone.
type workload struct {
	namespace, name string
}

var dnsName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

func (w *workload) String() string {
	if w.name == "" {
		return w.namespace
	}
	return w.namespace + "/" + w.name
}

func (*workload) Type() string { return "namespace[/name]" }

func (w *workload) Set(s string) error {
	namespace, name, named := strings.Cut(s, "/")
	if !dnsName.MatchString(namespace) || strings.Contains(namespace, ".") || named && !dnsName.MatchString(name) {
		return errors.New("expected namespace or namespace/name, in lower case letters, digits and '-'")
	}
	w.namespace, w.name = namespace, name
	return nil
}

func (w *workload) with(l labels) snapshot.Workload {
	return snapshot.Workload{Namespace: w.namespace, Name: w.name, Labels: l}
}

// A locality is region/zone/subzone, of which the later parts can be missing.
type locality string

func (l *locality) String() string { return string(*l) }
func (*locality) Type() string     { return "region[/zone[/subzone]]" }

func (l *locality) Set(s string) error {
	parts := strings.Split(s, "/")
	if len(parts) > 3 || slices.Contains(parts, "") || strings.ContainsAny(s, "* ,") {
		return errors.New("expected region, region/zone or region/zone/subzone")
	}
	*l = locality(s)
	return nil
}

// labels are k=v, several of them with commas or in several flags.
type labels map[string]string

func (labels) String() string { return "" }
func (labels) Type() string   { return "k=v,..." }

func (l labels) Set(s string) error {
	for pair := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || k == "" {
			return fmt.Errorf("%q is not a label: expected key=value", pair)
		}
		l[k] = v
	}
	return nil
}

// headers are "name: value", one in each flag.
type headers http.Header

func (headers) String() string { return "" }
func (headers) Type() string   { return "'name: value'" }

func (h headers) Set(s string) error {
	name, value, ok := strings.Cut(s, ":")
	switch {
	case !ok:
		return errors.New("expected 'name: value'")
	case name == "" || strings.ContainsFunc(name, notToken):
		return fmt.Errorf("%q is not a header name", name)
	case strings.ContainsFunc(value, isControl):
		return errors.New("the value has a control character")
	}
	http.Header(h).Add(name, strings.TrimSpace(value))
	return nil
}

// notToken finds what RFC 9110 §5.6.2 keeps out of field names.
func notToken(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
		strings.ContainsRune("!#$%&'*+-.^_`|~", r))
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// toJSON is for people too: indented, < and > as they are.
func toJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// logEncodings is a choice of MeshConfig's accessLogEncoding.
func logEncodings() choice { return choice{"TEXT", []string{"TEXT", "JSON"}} }
