package cli

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// TestLifeServices: with many services, each with a rule, subsets and a policy, killed and with its configuration away, it comes back by the
// snapshot; who asks before that is refused, and the first answer is the policy's (E-010). Where the identity is away too, nobody is
// let in at all (E-011). make life has 1,000 services.
func TestLifeServices(t *testing.T) {
	t.Parallel()
	n := times(t, "HEDDLE_LIFE_SERVICES", 20)
	app := upstreamOf(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	dir, state, id := servicesIn(t, n, true), filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(secretive), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := caDir(t)
	sign := func() {
		t.Helper()
		if r := heddle(t, "", "ca", "sign", ca, "default/ratings", "--out", id, "--replace"); r.code != exitOK {
			t.Fatal(r.stderr)
		}
	}
	sign()
	inbound := loopback.Free(t)
	args := slices.Concat([]string{"--config", dir, "--snapshot-dir", state, "--inbound", inbound + "=" + app, "--svid", filepath.Join(id, "svid.pem"),
		"--svid-key", filepath.Join(id, "key.pem"), "--svid-bundle", filepath.Join(id, "bundle.pem")}, apart)
	p := spawn(t, nil, args...)
	p.addresses()
	p.signal(syscall.SIGHUP) // when that is told of, what came first is kept
	p.until("SIGHUP: files were read anew")
	p.signal(syscall.SIGKILL)
	p.code()
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(id)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p = spawn(t, nil, args...)
	p.until("mesh identity refused")
	for range 10 {
		refused(t, inbound)
	}
	sign()
	early := 0
	for {
		status, err := statusOf("http://" + inbound + "/secret")
		if errors.Is(err, syscall.ECONNREFUSED) {
			early++
			continue
		}
		if err != nil || status != http.StatusForbidden {
			t.Errorf("the first answer: %d, %v", status, err)
		}
		break
	}
	t.Logf("%d services: the first answer, by the policy, %s after the start of a process that had to wait for its identity too; %d were refused before", n,
		time.Since(began).Truncate(time.Millisecond), early)
	p.until("the snapshot serves until that is mended")
	at := p.addresses()
	if r := heddle(t, "", "proxy-config", "clusters", "--admin", at["admin"]); strings.Count(r.stdout, "svc-") < n {
		t.Errorf("%d services of %d: %s", strings.Count(r.stdout, "svc-"), n, r.stderr)
	}
}
