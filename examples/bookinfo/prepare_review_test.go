package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPrepareDirKeepsTheUsersFile: a services.yaml that bookinfo has not written is neither overwritten nor,
// at the end, removed.
func TestPrepareDirKeepsTheUsersFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), servicesFile)
	const theirs = "# my own services\n"
	if err := os.WriteFile(name, []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &bookinfo{dir: filepath.Dir(name)}
	if err := b.prepareDir(); err == nil {
		t.Error("taken for our own")
	}
	if got, _ := os.ReadFile(name); string(got) != theirs {
		t.Errorf("now %q", got)
	}
	if err := os.WriteFile(name, b.serviceEntries(), 0o600); err != nil { // left behind by one that was killed
		t.Fatal(err)
	}
	if err := b.prepareDir(); err != nil {
		t.Error(err)
	}
}
