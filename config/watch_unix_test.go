//go:build unix

package config

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestA070Permissions: chmod 000 and back, of a file, a subdirectory and the directory itself. Root reads
// whatever it likes, and so has the test run by nobody.
func TestA070Permissions(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	f := files{t, t.TempDir()}
	f.write("m/a.yaml", named("a"))
	f.write("m/sub/b.yaml", named("b"))
	w := startWatch(t, WatchPaths(f.path("m")))
	w.await(t, "a b")
	t.Cleanup(func() { // else they could not be removed
		_ = os.Chmod(f.path("m"), 0o755)
		_ = os.Chmod(f.path("m/sub"), 0o755)
	})
	for _, c := range []struct {
		name string
		mode os.FileMode
	}{{"m/a.yaml", 0o644}, {"m/sub", 0o755}, {"m", 0o755}} {
		f.check(os.Chmod(f.path(c.name), 0))
		w.await(t, "refused: "+filepath.Base(c.name)+" cannot read: permission denied")
		f.check(os.Chmod(f.path(c.name), c.mode))
		w.await(t, "a b")
	}
	f.write("m/sub/b.yaml", named("x"))
	w.await(t, "a x")
}

// asNobody runs the calling test again in another process, under a user who is nobody.
func asNobody(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nobody") //nolint:usetesting // nobody else gets into the parent of a t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "test")
	self, err := os.Executable()
	if err == nil {
		err = copyFile(self, program)
	}
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}
