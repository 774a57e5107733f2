package inject_test

import (
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/internal/inject"
)

// TestShared: of two workloads that have their pod in common the one would have the other's sidecar, with its name and labels; and a List in a List is one of
// workloads too.
func TestShared(t *testing.T) {
	t.Parallel()
	const pod = "{template: {spec: {containers: [{name: x}]}}}"
	one := func(name, spec string) string {
		return "- {apiVersion: apps/v1, kind: Deployment, metadata: {name: " + name + "}, spec: " + spec + "}\n"
	}
	list := func(items string) string { return "apiVersion: v1\nkind: List\nitems:\n" + items }
	for _, in := range []string{
		list(one("a", "&s "+pod) + one("b", "*s")),
		list("- &a " + strings.TrimPrefix(one("a", pod), "- ") + "- *a\n"),
	} {
		out, said, err := inject.YAML([]byte(in), inject.Options{})
		if err != nil || out != nil || len(said) != 1 || !strings.Contains(said[0].Message, "an alias or a merge key above the pod") {
			t.Errorf("%s: %s, %+v, %v", in, out, said, err)
		}
	}
	out, said := injected(t, "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n  "+one("a", pod), inject.Options{})
	if !strings.Contains(out, "name: heddle-proxy") {
		t.Errorf("%s, %+v", out, said)
	}
}
