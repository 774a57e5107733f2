package mesh_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// meshBytes is what the mesh may add to a stripped net/http service, an HTTP/1.1 codec of its own, metrics, spans and access logs within. grpc-go alone
// would add as much again.
const meshBytes = 7_550_000

// unlinked are packages that a program with HTTP only must not link: the first three for their size, the
// templates because they make the linker keep every exported method of the whole program.
var unlinked = []string{
	"google.golang.org/grpc", "k8s.io", "github.com/envoyproxy/go-control-plane", "text/template", "html/template",
}

// TestSizeBudget builds the same service with and without the mesh and holds the difference to meshBytes.
func TestSizeBudget(t *testing.T) {
	t.Parallel()
	goTool := findGo(t)
	dir := t.TempDir()
	build := func(name string) int64 {
		out := filepath.Join(dir, name)
		cmd := exec.CommandContext(t.Context(), goTool, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
			"-o", out, "./internal/sizebudget/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", name, err, text)
		}
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	plain, meshed := build("plain"), build("meshed")
	t.Logf("plain %d bytes, meshed %d bytes: the mesh adds %d, the budget is %d", plain, meshed, meshed-plain, meshBytes)
	if meshed <= plain {
		t.Errorf("the program with the mesh is not larger than the one without: the comparison is broken")
	}
	if found := overBudget(plain, meshed); found != "" {
		t.Error(found)
	}
}

// TestSizeLinks keeps what an HTTP-only program would pay for, and not use, out of package mesh.
func TestSizeLinks(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), findGo(t), "list", "-deps", "./internal/sizebudget/meshed")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 50 {
		t.Fatalf("go list names %d packages: the listing is broken", len(deps))
	}
	for _, found := range linked(deps) {
		t.Errorf("a program that imports package mesh links %s\n\tDESIGN.md §4: grpc never in package mesh; Kubernetes, xDS and templates not in the library", found)
	}
}

func TestSizeRulesFire(t *testing.T) {
	t.Parallel()
	if overBudget(1, meshBytes+1) != "" || overBudget(1, meshBytes+2) == "" {
		t.Error("the budget does not bind at its edge")
	}
	for _, dep := range []string{
		"google.golang.org/grpc", "google.golang.org/grpc/codes", "k8s.io/client-go/rest",
		"github.com/envoyproxy/go-control-plane/envoy/config/core/v3", "text/template", "html/template",
	} {
		if len(linked([]string{"fmt", dep})) != 1 {
			t.Errorf("%s is not found", dep)
		}
	}
	if found := linked([]string{"fmt", "text/tabwriter", "google.golang.org/grpcish"}); len(found) != 0 {
		t.Errorf("found %q", found)
	}
}

func overBudget(plain, meshed int64) string {
	if meshed-plain <= meshBytes {
		return ""
	}
	return "the mesh adds more than it may to an HTTP-only program (DESIGN.md §4: such a program is built and measured)"
}

func linked(deps []string) []string {
	var found []string
	for _, dep := range deps {
		for _, bad := range unlinked {
			if dep == bad || strings.HasPrefix(dep, bad+"/") {
				found = append(found, dep)
			}
		}
	}
	return found
}

// findGo returns the go tool for the tests that build.
func findGo(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the go tool: not with -short")
	}
	name, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go tool in the path")
	}
	return name
}
