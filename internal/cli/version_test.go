package cli

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	r := heddle(t, "", "version")
	if r.code != exitOK || !strings.HasPrefix(r.stdout, "heddle ") || !strings.Contains(r.stdout, runtime.Version()) {
		t.Errorf("%+v", r)
	}
	r = heddle(t, "", "version", "-o", "json")
	var v buildVersion
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatal(err)
	}
	if v.Module != "github.com/heddlemesh/mesh" || v.Go != runtime.Version() || v.Version == "" {
		t.Errorf("%+v", v)
	}
}

func TestVersionText(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{GoVersion: "go1.26.6", Main: debug.Module{Path: "example.com/m", Version: "v0.1.0"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"}}}
	v := versionOf(info)
	v.Platform = "linux/amd64"
	same(t, "text", v.String(), "heddle v0.1.0 (example.com/m) go1.26.6 linux/amd64\nrevision abc of 2026-01-02T03:04:05Z, modified\n")
	if got := versionOf(&debug.BuildInfo{}).Version; got != "(devel)" {
		t.Errorf("version %q", got)
	}
}
