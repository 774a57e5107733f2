package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/proxy"
)

// A workloadName is a name as Kubernetes has them.
type workloadName string

func (n *workloadName) String() string { return string(*n) }
func (*workloadName) Type() string     { return "name" }

func (n *workloadName) Set(s string) error {
	if !dnsName.MatchString(s) {
		return errors.New("expected lower case letters, digits, '-' and '.'")
	}
	*n = workloadName(s)
	return nil
}

// inbounds are LISTEN=APP, one in each flag.
type inbounds []proxy.Inbound

func (*inbounds) String() string { return "" }
func (*inbounds) Type() string   { return "[host]:port=[host]:port" }

func (l *inbounds) Set(s string) error {
	listen, app, ok := strings.Cut(s, "=")
	path, unix := strings.CutPrefix(app, "unix://")
	switch {
	case !ok || checkAddress(listen) != nil || !unix && (checkAddress(app) != nil || strings.HasSuffix(app, ":0")):
		return errors.New("expected LISTEN=APP, each [host]:port, as in :9080=127.0.0.1:19080")
	case unix && !strings.HasPrefix(path, "/"):
		return errors.New("expected the whole path of a socket, as in unix:///run/app.sock")
	case unix:
		*l = append(*l, proxy.Inbound{Listen: listen, App: app})
		return nil
	}
	if host, port, _ := net.SplitHostPort(app); host == "" {
		app = net.JoinHostPort("127.0.0.1", port)
	}
	*l = append(*l, proxy.Inbound{Listen: listen, App: app})
	return nil
}

// told gives them with what is said of ports by number.
func (l inbounds) told(opaque, proxied ports) []proxy.Inbound {
	all := slices.Clone([]proxy.Inbound(l))
	for i := range all {
		_, port, _ := net.SplitHostPort(all[i].Listen)
		n, _ := strconv.ParseUint(port, 10, 16)
		all[i].Opaque, all[i].ProxyProtocol = slices.Contains(opaque, uint16(n)), slices.Contains(proxied, uint16(n))
	}
	return all
}

// outboundTCPs are LISTEN=HOST:PORT, one in each flag.
type outboundTCPs []proxy.OutboundTCP

func (*outboundTCPs) String() string { return "" }
func (*outboundTCPs) Type() string   { return "[host]:port=host:port" }

func (l *outboundTCPs) Set(s string) error {
	listen, to, _ := strings.Cut(s, "=")
	host, port, err := call.SplitAuthority(to)
	if err != nil || host == "" || port == 0 || checkAddress(listen) != nil {
		return errors.New("expected LISTEN=HOST:PORT, as in 127.0.0.1:3306=mysql:3306")
	}
	if at, number, _ := net.SplitHostPort(listen); at == "" {
		listen = net.JoinHostPort("127.0.0.1", number)
	}
	*l = append(*l, proxy.OutboundTCP{Listen: listen, Host: host, Port: port})
	return nil
}

// ports are numbers, with commas or in several flags.
type ports []uint16

func (*ports) String() string { return "" }
func (*ports) Type() string   { return "ports" }

func (l *ports) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseUint(one, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is no port", one)
		}
		*l = append(*l, uint16(n))
	}
	return nil
}

// A proxySetting is a flag of proxy that a variable and a settings file can give too.
type proxySetting struct {
	flag string
	form form // aList and aMapping: it may have several values
}

var proxySettings = []proxySetting{
	{"config", aList}, {"snapshot-dir", aValue}, {"takeover", aValue}, {"workload", aValue}, {"namespace", aValue}, {"service-account", aValue}, {"labels", aMapping},
	{"locality", aValue}, {"inbound", aList}, {"outbound", aValue}, {"transparent", aValue}, {"capture-outbound-port", aValue},
	{"capture-inbound-port", aValue}, {"outbound-tcp", aList}, {"allow-connect", aValue}, {"opaque-ports", aList}, {"proxy-protocol-ports", aList}, {"server-first", aValue}, {"tproxy", aValue}, {"dns", aList}, {"dns-upstream", aList}, {"dns-auto-allocate", aValue}, {"admin", aValue}, {"health", aValue}, {"app-probes", aValue}, {"app-metrics", aValue}, {"outbound-traffic-policy", aValue}, {"preset", aValue}, {"allow-non-loopback", aValue}, {"allow-loopback-keys", aValue},
	{"svid", aValue}, {"svid-key", aValue}, {"svid-bundle", aValue},
	{"workload-api", aValue}, {"workload-api-hint", aValue},
	{"ignore-kind", aList}, {"strict", aValue}, {"stream-idle-timeout", aValue}, {"drain-delay", aValue}, {"drain-timeout", aValue},
}

// variable gives the name of the variable that stands for a flag.
func variable(flag string) string {
	return "HEDDLE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settingsFrom sets the flags that the command line does not: from the environment, and what that does not set
// from the settings file, where one is named.
func settingsFrom(cmd *cobra.Command, lookup func(string) (string, bool)) error {
	for _, s := range proxySettings {
		f := cmd.Flags().Lookup(s.flag)
		value, ok := lookup(variable(s.flag))
		if !ok || value == "" || f.Changed {
			continue
		}
		values := []string{value}
		if s.form == aList {
			values = strings.Split(value, ",")
		}
		for _, v := range values {
			if err := f.Value.Set(strings.TrimSpace(v)); err != nil {
				return usageError("invalid value %q of %s: %w", value, variable(s.flag), err)
			}
		}
		f.Changed = true
	}
	f := cmd.Flags().Lookup("settings")
	file := f.Value.String()
	if value, ok := lookup(variable("settings")); ok && !f.Changed {
		file = value
	}
	switch {
	case file == "" && f.Changed:
		return usageError("a path is empty")
	case file == "":
		return nil
	}
	text, err := readSettingsFile(file)
	if err != nil {
		return &failure{exitInput, fmt.Errorf("read settings: %w", err)}
	}
	all, err := readSettings(text)
	for i := range all {
		if err == nil {
			err = all[i].giveTo(cmd)
		}
	}
	if wrong, ok := errors.AsType[*settingsError](err); ok {
		code := exitInput // no YAML, or not what settings know of it
		if wrong.setting {
			code = exitUsage
		}
		return &failure{code, fmt.Errorf("%s:%d:%d: %w", file, wrong.line, wrong.column, wrong)}
	}
	return err
}

func readSettingsFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	if err == nil && len(text) > maxSettings {
		err = fmt.Errorf("%s: larger than %d bytes", file, maxSettings)
	}
	return text, err
}

// giveTo sets the flag that the setting is for, unless it is set already.
func (s *setting) giveTo(cmd *cobra.Command) error {
	i := slices.IndexFunc(proxySettings, func(p proxySetting) bool { return p.flag == s.key })
	if i < 0 {
		return s.wrong(s.position, "unknown setting %q; %s", s.key, knownSettings(s.key))
	}
	f, takes := cmd.Flags().Lookup(s.key), proxySettings[i].form
	switch {
	case s.form == aNull:
		return s.wrong(s.position, "%s has no value: remove the line or give it one", s.key)
	case s.form != aValue && takes == aValue, s.form == aMapping && takes == aList:
		return s.wrong(s.position, "%s: expected %s, found %s", s.key, takes, s.form)
	case f.Changed:
		return nil
	}
	for _, v := range s.items {
		text := v.text
		if v.key != "" {
			text = v.key + "=" + text
		}
		err := f.Value.Set(text)
		switch kind := f.Value.Type(); {
		case kind == "bool" && v.text != "true" && v.text != "false":
			return s.wrong(v.position, "%s: expected true or false, found %q", s.key, v.text)
		case kind == "duration" && err != nil:
			return s.wrong(v.position, "%s: expected a duration such as 10s or 1m30s, found %q", s.key, v.text)
		case err != nil:
			return s.wrong(v.position, "%s: invalid value %q: %w", s.key, v.text, err)
		}
	}
	f.Changed = len(s.items) > 0
	return nil
}

func (s *setting) wrong(at position, format string, args ...any) error {
	return &settingsError{position: at, err: fmt.Errorf(format, args...), setting: true}
}

// knownSettings is the hint for a name that is none.
func knownSettings(name string) string {
	folded := strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
	var names []string
	for _, p := range proxySettings {
		if strings.ReplaceAll(p.flag, "-", "") == folded {
			return fmt.Sprintf("did you mean %q?", p.flag)
		}
		names = append(names, p.flag)
	}
	return "expected one of [" + strings.Join(names, " ") + "]"
}
