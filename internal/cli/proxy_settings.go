package cli

import (
	"errors"
	"net"
	"strings"

	"github.com/spf13/cobra"

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
	if !ok || checkAddress(listen) != nil || checkAddress(app) != nil || strings.HasSuffix(app, ":0") {
		return errors.New("expected LISTEN=APP, each [host]:port, as in :9080=127.0.0.1:19080")
	}
	if host, port, _ := net.SplitHostPort(app); host == "" {
		app = net.JoinHostPort("127.0.0.1", port)
	}
	*l = append(*l, proxy.Inbound{Listen: listen, App: app})
	return nil
}

// proxySettings are the flags of proxy that variables can give too, and whether a variable may hold several.
var proxySettings = []struct {
	flag string
	list bool
}{
	{"config", true}, {"workload", false}, {"namespace", false}, {"service-account", false}, {"labels", false},
	{"inbound", true}, {"outbound", false}, {"admin", false}, {"allow-non-loopback", false}, {"ignore-kind", true},
	{"strict", false}, {"drain-timeout", false},
}

// variable gives the name of the variable that stands for a flag.
func variable(flag string) string {
	return "HEDDLE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settingsFrom sets the flags that the command line does not.
func settingsFrom(cmd *cobra.Command, lookup func(string) (string, bool)) error {
	for _, s := range proxySettings {
		f := cmd.Flags().Lookup(s.flag)
		value, ok := lookup(variable(s.flag))
		if !ok || value == "" || f.Changed {
			continue
		}
		values := []string{value}
		if s.list {
			values = strings.Split(value, ",")
		}
		for _, v := range values {
			if err := f.Value.Set(strings.TrimSpace(v)); err != nil {
				return usageError("invalid value %q of %s: %w", value, variable(s.flag), err)
			}
		}
	}
	return nil
}
