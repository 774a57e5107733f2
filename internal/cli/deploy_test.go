package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What stands in deploy/ is read here by what it is for: it names files that are there, images that are built, and flags that this
// binary has.

const deploy = "../../deploy"

func readDeploy(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var kubeVariable = regexp.MustCompile(`\$\([A-Z_]+\)`)

// takes wants a command line that this binary takes, as far as its flags and arguments tell.
func takes(t *testing.T, where string, args []string) {
	t.Helper()
	args = slices.Clone(args)
	for i, a := range args {
		args[i] = kubeVariable.ReplaceAllString(a, "default") // as Kubernetes will have put them in
	}
	cmd, rest, err := newRoot().Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err == nil && !cmd.Runnable() && len(rest) == 0 {
		err = fmt.Errorf("%s does nothing", cmd.CommandPath())
	}
	if err != nil {
		t.Errorf("%s: heddle %s: %v", where, strings.Join(args, " "), err)
	}
}

// A stage is one of the Dockerfile.
type stage struct {
	base, user string
	entry, cmd []string
	copied     bool // the binary is in it
}

// stages reads the Dockerfile: the stages by their names, and the last one.
func stages(t *testing.T) (all map[string]*stage, last string) {
	t.Helper()
	all = map[string]*stage{}
	var at *stage
	words := func(s string) (list []string) {
		if err := yaml.Unmarshal([]byte(s), &list); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		return list
	}
	for line := range strings.Lines(readDeploy(t, "Dockerfile")) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		switch rest := strings.TrimSpace(strings.TrimPrefix(line, f[0])); f[0] {
		case "FROM":
			if len(f) != 4 || f[2] != "AS" {
				t.Fatalf("%s: a stage without a name", line)
			}
			at, last = &stage{base: f[1]}, f[3]
			all[last] = at
		case "COPY":
			checkCopy(t, all, f[1:])
			at.copied = at.copied || f[len(f)-1] == "/heddle"
		case "USER":
			at.user = f[1]
		case "ENTRYPOINT":
			at.entry = words(rest)
		case "CMD":
			at.cmd = words(rest)
		case "RUN":
			if strings.Contains(line, "go build") && !strings.Contains(line, " -o /out/heddle ./cmd/heddle\n") {
				t.Errorf("%s: not the binary that other stages copy", line)
			}
		case "WORKDIR", "EXPOSE":
		default:
			t.Errorf("an instruction that nobody has looked at: %s", line)
		}
	}
	return all, last
}

func checkCopy(t *testing.T, all map[string]*stage, f []string) {
	t.Helper()
	sources := f[:len(f)-1]
	if from, ok := strings.CutPrefix(f[0], "--from="); ok {
		if all[from] == nil {
			t.Errorf("COPY %v: no stage %s before it", f, from)
		}
		if !slices.Contains([]string{"/out/heddle", "/etc/ssl/certs/ca-certificates.crt"}, f[1]) {
			t.Errorf("COPY %v: who makes that?", f)
		}
		return
	}
	for _, s := range sources {
		if _, err := os.Stat(filepath.Join("../..", s)); err != nil {
			t.Errorf("COPY %v: %v", f, err)
		}
	}
}

// TestDeployDockerfile: the image of the sidecar is the binary and no more, for the user that the rules exempt.
func TestDeployDockerfile(t *testing.T) {
	t.Parallel()
	all, last := stages(t)
	sidecar := all["heddle"]
	if last != "heddle" || sidecar.base != "scratch" || sidecar.user != "1337:1337" || !sidecar.copied || !slices.Equal(sidecar.entry, []string{"/heddle"}) {
		t.Errorf("%s, %+v", last, sidecar)
	}
	for name, s := range all {
		switch {
		case s.copied:
			takes(t, name, s.cmd)
		case strings.HasPrefix(name, "bookinfo-") && (s.user != "1000:1000" || len(s.entry) == 0):
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// A unit is one of systemd's: its directives, each with all its values.
type unit map[string][]string

func readUnit(t *testing.T, name string) unit {
	t.Helper()
	u := unit{}
	for line := range strings.Lines(readDeploy(t, "systemd/"+name)) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#' || line[0] == '[':
		case !ok:
			t.Errorf("%s: %q", name, line)
		default:
			u[key] = append(u[key], value)
		}
	}
	return u
}

// commands gives the command lines of ours in a unit, with variables in their place.
func (u unit) commands(variables map[string]string) (all [][]string) {
	for _, key := range []string{"ExecStartPre", "ExecStart", "ExecStartPost", "ExecStop"} {
		for _, line := range u[key] {
			if rest, ok := strings.CutPrefix(line, "/usr/local/bin/heddle "); ok {
				all = append(all, strings.Fields(os.Expand(rest, func(name string) string { return variables[name] })))
			}
		}
	}
	return all
}

// TestDeployUnits is attacks.md G-008 for systemd: one capability in the unit that ends, none in the sidecar's, which cannot get one.
func TestDeployUnits(t *testing.T) {
	t.Parallel()
	capture, sidecar := readUnit(t, "heddle-capture.service"), readUnit(t, "heddle-proxy.service")
	flags := strings.TrimSuffix(strings.TrimPrefix(capture["Environment"][0], `"CAPTURE_FLAGS=`), `"`)
	for _, args := range append(capture.commands(map[string]string{"CAPTURE_FLAGS": flags}), sidecar.commands(map[string]string{"STATE_DIRECTORY": "/var/lib/heddle"})...) {
		takes(t, "systemd", args)
	}
	open := readUnit(t, "heddle-capture.service.d/fail-open.conf")
	openFlags := strings.TrimSuffix(strings.TrimPrefix(open["Environment"][0], `"FAIL_OPEN_FLAGS=`), `"`)
	commands := open.commands(map[string]string{"CAPTURE_FLAGS": flags, "FAIL_OPEN_FLAGS": openFlags})
	for _, args := range commands {
		takes(t, "systemd, fail-open", args)
	}
	if len(commands) != 2 || open["ExecStart"][0] != "" || open["ExecStop"][0] != "" { // those of the unit are no more
		t.Errorf("fail-open: %v, %v", commands, open)
	}
	for what, want := range map[string]string{"CapabilityBoundingSet": "", "AmbientCapabilities": "", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "User": "heddle",
		"StateDirectory": "heddle", "Requires": "heddle-capture.service"} {
		if got := sidecar[what]; len(got) != 1 || got[0] != want {
			t.Errorf("heddle-proxy.service: %s=%q, want %q", what, got, want)
		}
	}
	for what, want := range map[string]string{"CapabilityBoundingSet": "CAP_NET_ADMIN", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "Type": "oneshot", "RemainAfterExit": "yes"} {
		if got := capture[what]; len(got) != 1 || got[0] != want {
			t.Errorf("heddle-capture.service: %s=%q, want %q", what, got, want)
		}
	}
	if users := readDeploy(t, "systemd/heddle.conf"); !strings.Contains(users, "\nu heddle 1337:1337 ") {
		t.Errorf("the user is not the one that the rules exempt:\n%s", users)
	}
	cmd := proxyCommand()
	none := func(string) (string, bool) { return "", false }
	if err := cmd.ParseFlags([]string{"--settings", filepath.Join(deploy, "systemd/proxy.yaml")}); err != nil {
		t.Fatal(err)
	}
	if err := settingsFrom(cmd, none); err != nil || cmd.Flags().Lookup("transparent").Value.String() != "true" || cmd.Flags().Lookup("health").Value.String() != ":15021" {
		t.Error(err)
	}
}

// TestDeployUnitsVerify has systemd itself read the units.
func TestDeployUnitsVerify(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze: ", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, name := range []string{"heddle-capture.service", "heddle-proxy.service"} {
		file := filepath.Join(dir, name)
		text := strings.ReplaceAll(readDeploy(t, "systemd/"+name), "/usr/local/bin/heddle", self) // which has to be there
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "heddle") { // not what it says of this system's own units
			t.Errorf("%v: %s", err, line)
		}
	}
}

// A composed service is what is looked at of one.
type composed struct {
	Image       string
	Build       struct{ Context, Dockerfile, Target string }
	User        string
	Command     []string
	CapDrop     []string `yaml:"cap_drop"`
	CapAdd      []string `yaml:"cap_add"`
	SecurityOpt []string `yaml:"security_opt"`
	ReadOnly    bool     `yaml:"read_only"`
	NetworkMode string   `yaml:"network_mode"`
	DependsOn   any      `yaml:"depends_on"`
	Volumes     []string
	Ports       []string
	Environment map[string]string
	Health      struct{ Test []string } `yaml:"healthcheck"`
}

// TestDeployCompose: every program has a sidecar and rules in its network namespace, images are stages of the Dockerfile, and privileges
// are those of G-008.
func TestDeployCompose(t *testing.T) {
	t.Parallel()
	var file struct{ Services map[string]composed }
	if err := yaml.Unmarshal([]byte(readDeploy(t, "compose/docker-compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	built, _ := stages(t)
	programs := 0
	for name, s := range file.Services {
		if s.Image != "heddlemesh/"+s.Build.Target || built[s.Build.Target] == nil || s.Build.Context != "../.." || s.Build.Dockerfile != "deploy/Dockerfile" {
			t.Errorf("%s: image %s of %+v", name, s.Image, s.Build)
		}
		if !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || !s.ReadOnly {
			t.Errorf("%s: %+v", name, s)
		}
		if built[s.Build.Target] != nil && built[s.Build.Target].copied {
			takes(t, name, s.Command)
		}
		program, sidecar := strings.CutSuffix(name, "-proxy")
		_, capture := strings.CutSuffix(name, "-capture")
		switch {
		case capture:
			if s.User != "0:0" || !slices.Equal(s.CapAdd, []string{"NET_ADMIN"}) {
				t.Errorf("%s: %+v", name, s)
			}
		case sidecar:
			after, _ := s.DependsOn.(map[string]any)
			if s.User != "1337:1337" || len(s.CapAdd) > 0 || fmt.Sprint(after[program+"-capture"]) != "map[condition:service_completed_successfully]" {
				t.Errorf("%s: %+v", name, s)
			}
			takes(t, name, s.Health.Test[2:])
			if _, err := os.Stat(filepath.Join(deploy, "compose", strings.Split(s.Volumes[0], ":")[0])); err != nil {
				t.Error(err)
			}
		default:
			programs++
			for _, beside := range []string{"-proxy", "-capture"} {
				if file.Services[name+beside].NetworkMode != "service:"+name {
					t.Errorf("%s has no %s in its network namespace", name, beside)
				}
			}
			for variable := range s.Environment {
				if strings.Contains(strings.ToLower(variable), "proxy") {
					t.Errorf("%s is told of a proxy: %s", name, variable)
				}
			}
		}
	}
	if programs != 6 {
		t.Errorf("%d programs", programs)
	}
	if r := heddle(t, "", "analyze", "--failure-threshold", "Info", filepath.Join(deploy, "compose/mesh.d")); r.code != exitOK {
		t.Errorf("%+v", r)
	}
	endpointsAre(t, readDeploy(t, "compose/mesh.d/services.yaml"), "", func(name string) bool { return file.Services[name].Image != "" })
}

// endpointsAre wants every endpoint of ServiceEntries to be one that is there.
func endpointsAre(t *testing.T, entries, suffix string, there func(string) bool) {
	t.Helper()
	found := regexp.MustCompile(`address: ([a-z0-9.-]+)`).FindAllStringSubmatch(entries, -1)
	for _, m := range found {
		if name, ok := strings.CutSuffix(m[1], suffix); !ok || !there(name) {
			t.Errorf("nobody is at %s", m[1])
		}
	}
	if len(found) != 6 {
		t.Errorf("%d endpoints", len(found))
	}
}

// TestDeployKubernetes: the injected manifest is what heddle inject makes of the other one, its containers run what this binary takes, and the
// ConfigMap has documents that a mesh takes.
func TestDeployKubernetes(t *testing.T) {
	t.Parallel()
	plain, injected := filepath.Join(deploy, "kubernetes/bookinfo.yaml"), readDeploy(t, "kubernetes/bookinfo-injected.yaml")
	if r := heddle(t, "", "inject", "-f", plain); r.code != exitOK || r.stdout != injected || r.stderr != "" {
		t.Errorf("make it anew: go run ./cmd/heddle inject -f deploy/kubernetes/bookinfo.yaml >deploy/kubernetes/bookinfo-injected.yaml\n%d %s", r.code, r.stderr)
	}
	built, _ := stages(t)
	services, deployments := map[string]bool{}, 0
	for d := yaml.NewDecoder(strings.NewReader(injected)); ; {
		var one struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct {
				Template struct {
					Spec struct {
						Init       []kubeContainer `yaml:"initContainers"`
						Containers []kubeContainer
						Volumes    []struct {
							ConfigMap struct{ Name string } `yaml:"configMap"`
						}
					}
				}
			}
		}
		if d.Decode(&one) != nil {
			break
		}
		switch pod := one.Spec.Template.Spec; one.Kind {
		case "Service":
			services[one.Metadata.Name] = true
		case "Deployment":
			deployments++
			for _, c := range append(pod.Init, pod.Containers...) {
				target, ok := strings.CutPrefix(c.Image, "heddlemesh/")
				if !ok || built[target] == nil {
					t.Errorf("%s: no stage makes %s", one.Metadata.Name, c.Image)
				} else if built[target].copied {
					takes(t, one.Metadata.Name, c.Args)
				}
			}
			if !strings.Contains(fmt.Sprint(pod.Volumes), "heddle-mesh") {
				t.Errorf("%s: volumes %v", one.Metadata.Name, pod.Volumes)
			}
		case "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding":
			t.Errorf("%s %s: nobody needs a role", one.Kind, one.Metadata.Name)
		}
	}
	if deployments != 6 {
		t.Errorf("%d deployments", deployments)
	}
	var mesh struct {
		Kind     string
		Metadata struct{ Name string }
		Data     map[string]string
	}
	if err := yaml.Unmarshal([]byte(readDeploy(t, "kubernetes/mesh.yaml")), &mesh); err != nil || mesh.Kind != "ConfigMap" || mesh.Metadata.Name != "heddle-mesh" {
		t.Fatalf("%v, %+v", err, mesh)
	}
	dir := t.TempDir()
	for name, text := range mesh.Data {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := heddle(t, "", "analyze", "--failure-threshold", "Info", dir); r.code != exitOK || len(mesh.Data) != 3 {
		t.Errorf("%+v", r)
	}
	endpointsAre(t, mesh.Data["services.yaml"], ".default.svc.cluster.local", func(name string) bool { return services[name] })
}

type kubeContainer struct {
	Image string
	Args  []string
}
