package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const injectable = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a}]}\n"

// TestInject: files and standard input, both formats, and what is said of them.
func TestInject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	pod := file("pod.yaml", injectable)
	hidden := file("hidden.yaml", "kind: Service\n---\n"+strings.Replace(injectable, "{containers", "{hostNetwork: true, containers", 1))
	broken := file("broken.yaml", "a: [\n")
	for name, c := range map[string]struct {
		args     []string
		code     int
		out, err string // parts
	}{
		"a file":             {[]string{"-f", pod}, exitOK, "name: heddle-proxy", ""},
		"standard input":     {[]string{"-f", "-"}, exitOK, "name: heddle-proxy", ""},
		"two files":          {[]string{"-f", pod, "-f", pod}, exitOK, "\n---\napiVersion", ""},
		"JSON":               {[]string{"-f", pod, "-o", "json"}, exitOK, `"name":"heddle-proxy"`, ""},
		"other options":      {[]string{"-f", pod, "--config-map", "rules", "--image", "i:1", "--capture-image", "c:2", "--dns", "--identity-csi", "csi.spiffe.io"}, exitOK, "csi.spiffe.io", ""},
		"a refused workload": {[]string{"-f", pod, "-f", hidden}, exitFindings, "", "Error (Pod x " + hidden + ":6:21) hostNetwork: "},
		"nothing written":    {[]string{"-f", hidden}, exitFindings, "", "1 error: nothing is written\n"},
		"no YAML":            {[]string{"-f", broken}, exitInput, "", broken + ": yaml: line 1"},
		"no such file":       {[]string{"-f", filepath.Join(dir, "none")}, exitInput, "", "no such file"},
		"a directory":        {[]string{"-f", dir}, exitInput, "", "is a directory"},
		"no file":            {nil, exitUsage, "", "no file given"},
		"an empty path":      {[]string{"-f", ""}, exitUsage, "", "a path is empty"},
		"a bad option":       {[]string{"-f", pod, "--config-map", "A"}, exitUsage, "", `"A" is no name`},
		"a bad format":       {[]string{"-f", pod, "-o", "toml"}, exitUsage, "", "expected one of yaml, json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := heddle(t, injectable, append([]string{"inject"}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.stdout, c.out) || !strings.Contains(r.stderr, c.err) || (c.code == exitOK) != (r.stdout != "") {
				t.Errorf("%+v", r)
			}
		})
	}
}
