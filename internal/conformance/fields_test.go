package conformance

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/config"
)

// TestEveryHonouredFieldIsProved: for each field that is said to be honoured there is a row whose documents have it, or a
// test that the register names. With -v it lists which fields have no row.
func TestEveryHonouredFieldIsProved(t *testing.T) {
	t.Parallel()
	inRows := make(map[string]bool)
	for _, c := range Cases() {
		for key := range config.FieldKeys([]byte(c.Config)) {
			inRows[key] = true
		}
	}
	kinds, err := config.RegisteredKinds()
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	seen := make(map[string]bool)
	for _, k := range kinds {
		var without []string
		for _, o := range k.Objects {
			for _, f := range o.Fields {
				key := f.Key()
				if seen[key] || f.Outcome != config.Honoured || inRows[key] {
					continue
				}
				seen[key] = true
				switch {
				case f.Test == "":
					t.Errorf("%s is honoured, no row has it, and the register names no test", key)
				case tests[f.Test] == "":
					t.Errorf("%s: there is no %s", key, f.Test)
				case !strings.Contains(tests[f.Test], f.Name):
					t.Errorf("%s: the file of %s does not so much as name it", key, f.Test)
				default:
					without = append(without, key+" ("+f.Test+")")
				}
			}
		}
		if len(without) > 0 {
			t.Logf("%s, fields without a row: %s", k.Kind, strings.Join(without, ", "))
		}
	}
}

var testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testNames lists the tests of the module, with the files that they stand in.
func testNames(t *testing.T) map[string]string {
	t.Helper()
	names := make(map[string]string)
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root:
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			names[string(m[1])] += string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
