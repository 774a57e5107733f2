package cli

import (
	"os"
	"testing"
	"time"
)

// TestLifeThrottled: with a tenth of a processor, which the kernel takes away for 90 of every 100 ms, a sidecar under load is slow, and
// nothing is lost and nobody ejected; health answers (E-017).
func TestLifeThrottled(t *testing.T) {
	t.Parallel()
	waits := 10 * times(t, "HEDDLE_LIFE_PAUSE", 1)
	group := newCgroup(t, "cpu")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, args := group.command(self)
	counts := undisturbed(t, program, args, func(_ *process, all func(int64)) {
		if !group.v2 {
			group.set("", "cpu.cfs_period_us", "100000")
		}
		group.set("cpu.max", "cpu.cfs_quota_us", map[bool]string{true: "10000 100000", false: "10000"}[group.v2])
		for from := group.throttled(); group.throttled() < from+waits; {
			<-time.After(10 * time.Millisecond)
		}
		all(10)
		group.set("cpu.max", "cpu.cfs_quota_us", map[bool]string{true: "max 100000", false: "-1"}[group.v2])
	})
	t.Logf("10 of 100 ms of a processor until it had waited %d times: %s", waits, counts)
}
