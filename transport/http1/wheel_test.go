package http1

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A deadline comes not before its time and at most two ticks after it, whenever in a tick it is set.
func TestWheel(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{-time.Second, 0, 1, 99 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 10 * time.Second} {
		for _, offset := range []time.Duration{0, 1, 50 * time.Millisecond, 99 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				const tick = 100 * time.Millisecond
				w := NewWheel(0)
				defer w.Close()
				came := make(chan time.Time, 10)
				d := w.Add(func() { came <- time.Now() })
				defer d.Remove()
				time.Sleep(time.Second + offset)
				begin := time.Now()
				d.Arm(after)
				got := (<-came).Sub(begin)
				if want := max(after, 0); got < want || got > want+2*tick {
					t.Errorf("armed for %v at offset %v it comes after %v", after, offset, got)
				}
				time.Sleep(time.Minute)
				if len(came) != 0 || d.Disarm() {
					t.Error("it comes again")
				}
			})
		}
	}
}

func TestWheelArming(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWheel(time.Second)
		defer w.Close()
		var mu sync.Mutex
		var came []int
		const n = 3*blockSize + 7
		all := make([]*Deadline, n)
		for i := range all {
			all[i] = w.Add(func() {
				mu.Lock()
				defer mu.Unlock()
				came = append(came, i)
			})
		}
		for i, d := range all {
			d.Arm(time.Minute)
			switch i % 3 {
			case 0: // earlier than it was
				d.Arm(time.Second)
			case 1: // later
				d.Arm(time.Hour)
			case 2: // not at all
				if !d.Disarm() || d.Disarm() {
					t.Error("Disarm is wrong about what was armed")
				}
			}
		}
		count := func() int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return len(came)
		}
		third := (n + 2) / 3
		time.Sleep(4 * time.Second)
		if got := count(); got != third {
			t.Errorf("%d came, not %d", got, third)
		}
		time.Sleep(2 * time.Minute)
		if got := count(); got != third {
			t.Errorf("%d came after two minutes", got)
		}
		// A place that is removed and taken again has nothing of what was there before.
		all[1].Remove()
		all[1].Remove()
		again := w.Add(func() {
			mu.Lock()
			defer mu.Unlock()
			came = append(came, -1)
		})
		time.Sleep(2 * time.Hour)
		if got := count(); got != 2*third-1 && got != third+(n+1)/3-1 {
			t.Errorf("%d came after two hours", got)
		}
		if slices.Contains(came, 1) || slices.Contains(came, -1) {
			t.Error("what was removed, or what was never armed, came")
		}
		again.Arm(0)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if !slices.Contains(came, -1) {
			t.Error("the place is dead")
		}
	})
}

// An empty wheel does not tick; one that is closed does not expire, and leaves no goroutine (synctest says so).
func TestWheelRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWheel(100 * time.Millisecond)
		d := w.Add(func() {})
		time.Sleep(time.Second)
		d.Remove()
		time.Sleep(time.Second)
		before := w.now.Load()
		time.Sleep(time.Hour)
		if w.now.Load() != before {
			t.Errorf("it ticked %d times with nothing to look at", w.now.Load()-before)
		}
		came := false
		d = w.Add(func() { came = true })
		d.Arm(time.Second)
		time.Sleep(500 * time.Millisecond)
		if came {
			t.Error("it came too early after a rest")
		}
		w.Close()
		w.Close()
		time.Sleep(time.Minute)
		if came {
			t.Error("it came although the wheel is closed")
		}
		d.Remove()
	})
}

// B-050, B-095: a read that waits ends.
func TestWheelConn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWheel(0)
		defer w.Close()
		a, b := net.Pipe()
		defer a.Close()
		c := NewConn(b, nil)
		defer c.Close()
		d := w.AddConn(b)
		d.Arm(10 * time.Second)
		begin := time.Now()
		err := c.WaitReadable()
		if took := time.Since(begin); !errors.Is(err, os.ErrDeadlineExceeded) || took < 10*time.Second || took > 11*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestWheelConcurrent(t *testing.T) {
	t.Parallel()
	w := NewWheel(time.Millisecond)
	defer w.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				d := w.Add(func() {})
				for range 20 {
					d.Arm(0)
					d.Disarm()
				}
				d.Remove()
			}
		})
	}
	wg.Wait()
}
