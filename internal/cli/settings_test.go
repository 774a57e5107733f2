package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const everySetting = `# what the sidecar of ratings is started with
---
config: [mesh.d, "more.d"]   # two
workload: ratings-v1
namespace: 'shop'
service-account: bookinfo-ratings
labels:
  app: ratings
  version: "v1"
locality: eu/a/1
inbound:
- ":9080=127.0.0.1:19080"
- ':9081=:19081' # another
outbound: 127.0.0.1:1
transparent: true
capture-outbound-port: 16001
capture-inbound-port: 16006
opaque-ports: ["3306", "25,26"]
outbound-tcp: ["127.0.0.1:3306=mysql:3306"]
proxy-protocol-ports: ["3306"]
server-first: 3s
tproxy: true
dns: "127.0.0.1:16053"
dns-upstream: [10.0.0.2, "10.0.0.3:54"]
dns-auto-allocate: false
admin: none
snapshot-dir: /var/lib/heddle
takeover: /run/heddle/takeover
health: ":15021"
app-probes: '{"/app-health/ratings/livez":{"httpGet":{"path":"/health","port":9080}}}'
app-metrics: http://127.0.0.1:9102/metrics
outbound-traffic-policy: REGISTRY_ONLY
preset: production
allow-connect: true
allow-non-loopback: false
allow-loopback-keys: true
ignore-kind: Sidecar
strict: true
stream-idle-timeout: 1h
drain-delay: 1s
drain-timeout: 1m30s
svid: /run/id/svid.pem
svid-key: /run/id/key.pem
svid-bundle: /run/id/bundle.pem
workload-api: unix:///run/agent.sock
workload-api-hint: internal
`

func settingsFileOf(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSettingsFile: a flag counts before a variable, and that before the file; lists are taken whole.
func TestSettingsFile(t *testing.T) {
	t.Parallel()
	file := settingsFileOf(t, everySetting)
	cmd := proxyCommand()
	if err := cmd.ParseFlags([]string{"--settings", file, "--outbound", "127.0.0.1:2", "--labels", "only=this"}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"HEDDLE_OUTBOUND": "127.0.0.1:3", "HEDDLE_WORKLOAD": "of-the-environment", "HEDDLE_CONFIG": "env.d"}
	if err := settingsFrom(cmd, func(name string) (string, bool) { v, ok := env[name]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{"config": "[env.d]", "workload": "of-the-environment", "namespace": "shop", "service-account": "bookinfo-ratings",
		"locality": "eu/a/1", "outbound": "127.0.0.1:2", "transparent": "true", "capture-outbound-port": "16001",
		"capture-inbound-port": "16006", "server-first": "3s", "dns-auto-allocate": "false", "tproxy": "true", "admin": "none", "snapshot-dir": "/var/lib/heddle", "takeover": "/run/heddle/takeover", "health": ":15021",
		"app-probes": `{"/app-health/ratings/livez":{"httpGet":{"path":"/health","port":9080}}}`, "app-metrics": "http://127.0.0.1:9102/metrics", "outbound-traffic-policy": "REGISTRY_ONLY", "preset": "production", "allow-connect": "true", "allow-non-loopback": "false", "allow-loopback-keys": "true", "ignore-kind": "[Sidecar]",
		"strict": "true", "stream-idle-timeout": "1h0m0s", "drain-delay": "1s", "drain-timeout": "1m30s",
		"svid": "/run/id/svid.pem", "svid-key": "/run/id/key.pem", "svid-bundle": "/run/id/bundle.pem",
		"workload-api": "unix:///run/agent.sock", "workload-api-hint": "internal"} {
		if got := cmd.Flags().Lookup(flag).Value.String(); got != want {
			t.Errorf("%s is %s, want %s", flag, got, want)
		}
	}
	in := *cmd.Flags().Lookup("inbound").Value.(*inbounds)
	if len(in) != 2 || in[0].Listen != ":9080" || in[1].App != "127.0.0.1:19081" {
		t.Errorf("inbound is %v", in)
	}
	if l := *cmd.Flags().Lookup("dns").Value.(*addresses); fmt.Sprint(l) != "[127.0.0.1:16053]" {
		t.Errorf("dns is %v", l)
	}
	if l := *cmd.Flags().Lookup("dns-upstream").Value.(*nameServers); fmt.Sprint(l) != "[10.0.0.2:53 10.0.0.3:54]" {
		t.Errorf("dns-upstream is %v", l)
	}
	if l := *cmd.Flags().Lookup("opaque-ports").Value.(*ports); fmt.Sprint(l) != "[3306 25 26]" {
		t.Errorf("opaque ports are %v", l)
	}
	if l := *cmd.Flags().Lookup("proxy-protocol-ports").Value.(*ports); fmt.Sprint(l) != "[3306]" {
		t.Errorf("ports of the PROXY protocol are %v", l)
	}
	if l := *cmd.Flags().Lookup("outbound-tcp").Value.(*outboundTCPs); fmt.Sprint(l) != "[{127.0.0.1:3306 mysql 3306}]" {
		t.Errorf("outbound listeners of TCP are %v", l)
	}
	if l := *cmd.Flags().Lookup("labels").Value.(*labels); fmt.Sprint(map[string]string(l)) != "map[only:this]" {
		t.Errorf("labels are %v", l)
	}

	// By its variable, alone.
	cmd = proxyCommand()
	if err := settingsFrom(cmd, func(name string) (string, bool) { return file, name == "HEDDLE_SETTINGS" }); err != nil {
		t.Fatal(err)
	}
	if l := *cmd.Flags().Lookup("labels").Value.(*labels); fmt.Sprint(map[string]string(l)) != "map[app:ratings version:v1]" {
		t.Errorf("labels are %v", l)
	}
	if got := cmd.Flags().Lookup("config").Value.String(); got != "[mesh.d,more.d]" {
		t.Errorf("config is %s", got)
	}
	for _, s := range proxySettings {
		if !strings.Contains(everySetting, "\n"+s.flag+":") {
			t.Errorf("no test of %s", s.flag)
		}
	}
}

// TestSettingsFileFaults: each with its place, and what would be right.
func TestSettingsFileFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		code int
		says string
	}{
		{"drainTimeout: 3s", exitUsage, `1:1: unknown setting "drainTimeout"; did you mean "drain-timeout"?`},
		{"\n\nupstream: x", exitUsage, `3:1: unknown setting "upstream"; expected one of [config snapshot-dir takeover workload`},
		{"settings: other.yaml", exitUsage, `1:1: unknown setting "settings"; expected one of`},
		{"strict: yes", exitUsage, `1:9: strict: expected true or false, found "yes"`},
		{"strict: 1", exitUsage, `1:9: strict: expected true or false, found "1"`},
		{"workload: [a, b]", exitUsage, "1:1: workload: expected one value, found a list"},
		{"admin: {a: b}", exitUsage, "1:1: admin: expected one value, found a mapping"},
		{"config:\n  a: b", exitUsage, "1:1: config: expected a list, found a mapping"},
		{"workload:", exitUsage, "1:1: workload has no value: remove the line or give it one"},
		{"workload: ~ # none", exitUsage, "1:1: workload has no value: remove the line or give it one"},
		{"drain-timeout: 10", exitUsage, `1:16: drain-timeout: expected a duration such as 10s or 1m30s, found "10"`},
		{"namespace: Shop", exitUsage, `1:12: namespace: invalid value "Shop": expected lower case letters, digits, '-' and '.'`},
		{"outbound-traffic-policy: registry_only", exitUsage, `1:26: outbound-traffic-policy: invalid value "registry_only": expected one of ALLOW_ANY, REGISTRY_ONLY`},
		{"inbound:\n- ':1=:2'\n- ':3'", exitUsage, "3:3: inbound: invalid value \":3\": expected LISTEN=APP, each [host]:port, as in :9080=127.0.0.1:19080"},
		{"labels: [app]", exitUsage, `1:10: labels: invalid value "app": "app" is not a label: expected key=value`},
		{"config: a\nconfig: b", exitInput, "2:1: config is there twice, first in line 1"},
		{"labels: {a: b, a: c}", exitInput, "1:19: a is there twice"},
		{"config: [a, null]", exitInput, "1:13: expected a value, found null"},
		{"\tconfig: a", exitInput, "1:1: a tab"},
		{"config:\ta", exitInput, "1:8: a tab"},
		{"config", exitInput, "1:1: expected name: value, with a space after the colon"},
		{"config:a", exitInput, "1:1: expected name: value, with a space after the colon"},
		{`"config": a`, exitInput, "1:1: expected name: value"},
		{"config: &x a", exitInput, `1:9: a value that begins with "&" means something else in YAML: write it in quotes`},
		{"config: |\n  a", exitInput, `1:9: a value that begins with "|"`},
		{"config: a: b", exitInput, "1:10: a colon and a space begin something else in YAML"},
		{"config: [a", exitInput, "1:11: the bracket is not closed on this line"},
		{"config: [a b: c]", exitInput, "1:13: a colon and a space"},
		{"config: [:1]", exitInput, `1:10: a value that begins with ":"`},
		{`config: "a`, exitInput, "1:9: the quote is not closed on this line"},
		{`config: "a\n"`, exitInput, `1:11: an escape other than \" and \\`},
		{"config: 'a' b", exitInput, `1:13: unexpected "b" after the value of config`},
		{"config: a\n  b", exitInput, "2:3: more of config, whose value stands on its own line"},
		{"config:\n- a\n  - b", exitInput, "3:3: indented by 2, the others of config by 0"},
		{"labels:\n  a: b\n  - c=d", exitInput, "3:3: labels is a mapping so far"},
		{"  config: a", exitInput, "1:3: expected name: value at the beginning of a line"},
		{"- a", exitInput, "1:1: expected name: value at the beginning of a line"},
		{"config:\n- - a", exitInput, `2:3: a value that begins with "-"`},
		{"config: a\n---\nconfig: b", exitInput, "2:1: a marker of YAML documents"},
		{"config: a\x00", exitInput, "1:10: a character that no settings have"},
		{"config: \xff", exitInput, "1:9: a character that no settings have"},
	} {
		file := settingsFileOf(t, c.text)
		r := heddle(t, "", "proxy", "--settings", file)
		first, _, _ := strings.Cut(r.stderr, "\n")
		if r.code != c.code || !strings.HasPrefix(first, "heddle: "+file+":"+c.says) {
			t.Errorf("%q: exit code %d, %s", c.text, r.code, strings.ReplaceAll(first, file, "FILE"))
		}
	}
	if r := heddle(t, "", "proxy", "--settings", filepath.Join(t.TempDir(), "none")); r.code != exitInput || !strings.Contains(r.stderr, "read settings: ") {
		t.Errorf("no file: exit code %d, %s", r.code, r.stderr)
	}
	if r := heddle(t, "", "proxy", "--settings", ""); r.code != exitUsage || !strings.Contains(r.stderr, "a path is empty") {
		t.Errorf("no name: exit code %d, %s", r.code, r.stderr)
	}
	if _, err := readSettings([]byte("")); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

// FuzzReadSettings: what is read at all, a YAML parser reads in the same way.
func FuzzReadSettings(f *testing.F) {
	for _, s := range []string{everySetting, "a: [b, 'c''d', \"e\\\\f\"] # g", "a:\n  b: c\n  d: e#f\ng:\n- h", "a: {b: c, d: 'e'}", "a: []\nb: {}\nc:\nd: ~", "a: x#y z",
		"a:  -b", "a: b:c", "a:\n   - b\n   - c # d\n\n# e\n", "---\na: 1", "a: :b", "a: ?b", "a: 'b'#c", "a: [b]#c", "a: 0x1\nb: 1.0\nc: true\nd: 2001-01-01", "a: =", "a: <<",
		"a: b  # c", "a: [b,c]", "a: [ b , c ]", "a: {b: [c]}", "a: -", "a: - b", "a:\n-", "a: 'b\n c'", "a: b\r\nc: d\r\n", "\ufeffa: b", "a: \"\"\nb: ''", "a: {b: ''}", "a: %b", "a: b%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := readSettings([]byte(text))
		if err != nil {
			var wrong *settingsError
			if !errors.As(err, &wrong) || wrong.line < 1 || wrong.column < 1 {
				t.Errorf("%v has no place", err)
			}
			return
		}
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatalf("no YAML: %v", err)
		}
		if len(all) == 0 {
			if len(doc.Content) > 0 && doc.Content[0].Tag != "!!null" {
				t.Errorf("nothing is read of %v", doc.Content[0])
			}
			return
		}
		var nodes []*yaml.Node
		if nodes = doc.Content[0].Content; doc.Content[0].Kind != yaml.MappingNode || len(nodes) != 2*len(all) {
			t.Fatalf("%d settings, YAML has %d", len(all), len(nodes)/2)
		}
		for i, s := range all {
			key, value := nodes[2*i], nodes[2*i+1]
			if key.Value != s.key || key.Line != s.line || key.Column != s.column {
				t.Errorf("setting %d: %+v, YAML has %s at %d:%d", i, s, key.Value, key.Line, key.Column)
			}
			if got, want := spelled(s), spelledNode(value); !slices.Equal(got, want) {
				t.Errorf("%s: %q, YAML has %q", s.key, got, want)
			}
		}
	})
}

// spelled gives form and values in one form for both readers.
func spelled(s setting) []string {
	all := []string{s.form.String()}
	for _, v := range s.items {
		all = append(all, v.key+"="+v.text)
	}
	return all
}

func spelledNode(n *yaml.Node) []string {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return []string{aNull.String()}
	case n.Kind == yaml.ScalarNode:
		return []string{aValue.String(), "=" + n.Value}
	case n.Kind == yaml.SequenceNode:
		all := []string{aList.String()}
		for _, v := range n.Content {
			all = append(all, "="+v.Value)
			if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
				all = append(all, "not a value")
			}
		}
		return all
	case n.Kind == yaml.MappingNode:
		all := []string{aMapping.String()}
		for i := 0; i+1 < len(n.Content); i += 2 {
			all = append(all, n.Content[i].Value+"="+n.Content[i+1].Value)
			if n.Content[i+1].Kind != yaml.ScalarNode || n.Content[i+1].Tag == "!!null" {
				all = append(all, "not a value")
			}
		}
		return all
	}
	return []string{"something else"}
}
