package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestA071ManyFilesAtOnce: a thousand files change; few updates, and the last state wins.
func TestA071ManyFilesAtOnce(t *testing.T) {
	t.Parallel()
	const n = 1000
	f := files{t, t.TempDir()}
	all := func(prefix string) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("%s%04d", prefix, i))
			f.write(fmt.Sprintf("m/d%d/f%04d.yaml", i%10, i), named(list[i]))
		}
		return strings.Join(list, " ")
	}
	want := all("a")
	w := startWatch(t, WatchPaths(f.path("m")))
	w.await(t, want)
	begin := time.Now()
	all("b")
	want = all("c")
	wrote := time.Since(begin)
	w.await(t, want)
	if most := 3 + int(wrote/mostDelay); w.count() > most {
		t.Errorf("%d updates for %d writes in %v, want at most %d", w.count(), 2*n, wrote, most)
	}
	t.Logf("%d updates, written in %v", w.count()-1, wrote)
}

// openFiles counts file descriptors, 0 where the system does not tell.
func openFiles() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// TestA071ConstantWriting: 100 writes a second for three seconds are a few updates, and neither they nor
// directories that come and go make goroutines or open files grow. Afterwards none is left.
func TestA071ConstantWriting(t *testing.T) {
	f := files{t, t.TempDir()}
	f.write("m/a.yaml", named("a"))
	goroutines, open := runtime.NumGoroutine(), openFiles()
	w := startWatch(t, WatchPaths(f.path("m")))
	w.await(t, "a")
	running, watching := runtime.NumGoroutine(), openFiles()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	const writes = 300
	begin := time.Now()
	pauses, last := 0, begin // in which the files were at rest, as far as the watch can tell
	for i := range writes {
		<-tick.C
		if now := time.Now(); now.Sub(last) > quietTime/2 {
			pauses++ // the machine was busy
		}
		last = time.Now()
		f.write("next", named(fmt.Sprintf("w%03d", i)))
		f.move("next", "m/a.yaml")
		switch i % 10 {
		case 0:
			f.write("m/sub/b.yaml", named("b"))
		case 5:
			f.remove("m/sub")
		}
	}
	w.await(t, fmt.Sprintf("w%03d", writes-1))
	t.Logf("%d updates; goroutines %d, %d while watching, %d after the writes; files %d, %d, %d",
		w.count(), goroutines, running, runtime.NumGoroutine(), open, watching, openFiles())
	if most := 3 + 2*int(time.Since(begin)/mostDelay) + pauses; w.count() < 3 || w.count() > most {
		t.Errorf("%d updates, want at most %d", w.count(), most)
	}
	if g, o := runtime.NumGoroutine(), openFiles(); g > running+1 || o > watching+1 {
		t.Errorf("%d goroutines, %d before the writes; %d open files, %d before", g, running, o, watching)
	}
	w.end()
	if o := openFiles(); o > open {
		t.Errorf("%d open files left of %d", o, open)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines left of %d\n%s", runtime.NumGoroutine(), goroutines, buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestWatchWithoutNotifications: where inotify has no instance left, looking every two seconds does it, and
// notifications are used as soon as there are some.
func TestWatchWithoutNotifications(t *testing.T) {
	t.Parallel()
	f := files{t, t.TempDir()}
	f.write("m/a.yaml", named("a"))
	asked, allowed := 0, make(chan struct{})
	s := &PathWatch{paths: []string{f.path("m")}, open: func() (*fsnotify.Watcher, error) {
		asked++ // by Run's goroutine only
		select {
		case <-allowed:
			return fsnotify.NewWatcher()
		default:
			return nil, &os.SyscallError{Syscall: "inotify_init1", Err: syscall.EMFILE}
		}
	}}
	w := startWatch(t, s)
	w.await(t, "a")
	f.write("m/a.yaml", named("b")) // the same size, perhaps within the same tick of the file system's clock
	w.await(t, "b")
	f.remove("m")
	w.await(t, "refused: m "+gone)
	close(allowed)
	f.write("m/c/c.yaml", named("c"))
	w.await(t, "c")
	begin := time.Now()
	f.write("m/c/c.yaml", named("d"))
	w.await(t, "d")
	if took := time.Since(begin); took > pollAlone {
		t.Errorf("with notifications it took %v", took)
	}
	w.end()
	if asked < 3 {
		t.Errorf("notifications were asked for %d times", asked)
	}
}

// TestWatchWithoutWatches: where inotify has an instance but no watch left, likewise.
func TestWatchWithoutWatches(t *testing.T) {
	t.Parallel()
	f := files{t, t.TempDir()}
	f.write("m/a.yaml", named("a"))
	w := startWatch(t, &PathWatch{paths: []string{f.path("m")}, open: func() (*fsnotify.Watcher, error) {
		full, err := fsnotify.NewWatcher()
		if err == nil {
			err = full.Close() // Add fails from now on, as it does with ENOSPC
		}
		return full, err
	}})
	w.await(t, "a")
	f.write("m/b/b.yaml", named("b"))
	w.await(t, "a b")
}

func TestSettle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		gap  time.Duration // between changes
		n    int
		want time.Duration
	}{
		"nothing more": {0, 0, 100 * time.Millisecond},
		"three more":   {60 * time.Millisecond, 3, 280 * time.Millisecond},
		"without end":  {60 * time.Millisecond, 1000, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dirty := make(chan struct{}, 1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					for range c.n {
						select {
						case <-time.After(c.gap):
							dirty <- struct{}{}
						case <-ctx.Done():
							return
						}
					}
				}()
				begin := time.Now()
				settle(ctx, dirty, nil)
				if took := time.Since(begin); took != c.want {
					t.Errorf("waited %v, want %v", took, c.want)
				}
				cancel()
				settle(ctx, nil, nil) // returns at once
			})
		})
	}
}

// A watchedMesh is what documents in a directory come to.
type watchedMesh struct {
	*Joined
	reports chan Status
}

func joinWatched(tb testing.TB, dir string) *watchedMesh {
	tb.Helper()
	w := &watchedMesh{reports: make(chan Status, 100)}
	w.Joined = Join(Options{Report: func(s Status) { w.reports <- s }}, new(discovery.Registry), WatchPaths(dir))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- w.Run(ctx, func(context.Context, *snapshot.Snapshot) error { return nil })
	}()
	tb.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done); err != nil {
			tb.Error(err)
		}
	})
	return w
}

// next waits for the next report.
func (w *watchedMesh) next(tb testing.TB) Status {
	tb.Helper()
	select {
	case s := <-w.reports:
		return s
	case <-time.After(30 * time.Second):
		tb.Fatal("no report")
		return Status{}
	}
}

// TestA072GoodBadGood: the good one serves throughout, and is decoded and compiled once.
func TestA072GoodBadGood(t *testing.T) {
	t.Parallel()
	f := files{t, t.TempDir()}
	good := doc("ServiceEntry", "reviews", reviewsEntry)
	f.write("a.yaml", good)
	w := joinWatched(t, f.dir)
	if s := w.next(t); s.Version != "1" || s.Refused != nil {
		t.Fatalf("%+v", s)
	}
	f.replace("a.yaml", strings.Replace(good, "resolution", "resolutoin", 1))
	s := w.next(t)
	if s.Version != "1" || s.Refused == nil || !strings.Contains(s.Refused.Error(), f.path("a.yaml")+":4:52") {
		t.Fatalf("version %s, refused: %v", s.Version, s.Refused)
	}
	begin := time.Now()
	f.replace("a.yaml", good)
	s = w.next(t)
	if s.Version != "1" || s.Refused != nil || w.Status().Refused != nil || w.Compiles() != 1 || w.Decodes() != 2 {
		t.Errorf("%+v after %d compilations of %d documents", s, w.Compiles(), w.Decodes())
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// writeThousand writes 1,000 documents, in one file or in a file each, and gives a way to change one.
func writeThousand(f files, split bool) (edit func(prefix string)) {
	text := string(thousand(500))
	if !split {
		f.write("all.yaml", text)
		return func(prefix string) {
			f.replace("all.yaml", strings.Replace(text, "prefix: /api/", "prefix: "+prefix, 1))
		}
	}
	texts := strings.Split(strings.TrimPrefix(text, "---\n"), "---\n")
	for i, s := range texts {
		f.write(fmt.Sprintf("d%04d.yaml", i), s)
	}
	return func(prefix string) {
		f.replace("d0001.yaml", strings.Replace(texts[1], "prefix: /api/", "prefix: "+prefix, 1))
	}
}

// TestOneOfAThousand: one document changes, one is decoded. The time is for the record; the benchmark below
// measures it without the watching.
func TestOneOfAThousand(t *testing.T) {
	t.Parallel()
	for _, split := range []bool{false, true} {
		f := files{t, t.TempDir()}
		change := writeThousand(f, split)
		w := joinWatched(t, f.dir)
		if s := w.next(t); s.Documents != 1000 || w.Decodes() != 1000 {
			t.Fatalf("%d documents, %d decoded", s.Documents, w.Decodes())
		}
		begin := time.Now()
		change("/abc/")
		if s := w.next(t); s.Version != "2" || w.Decodes() != 1001 || w.Compiles() != 2 {
			t.Errorf("version %s, %d decoded, %d compilations", s.Version, w.Decodes(), w.Compiles())
		}
		t.Logf("files each: %t, live %v after it was saved, 100 ms of them waiting", split, time.Since(begin))
	}
}

// BenchmarkOneOfAThousand goes from a saved file to the live snapshot, the waiting left out.
func BenchmarkOneOfAThousand(b *testing.B) {
	for _, split := range []bool{false, true} {
		b.Run(map[bool]string{false: "one file", true: "a file each"}[split], func(b *testing.B) {
			f := files{b, b.TempDir()}
			edit := writeThousand(f, split)
			n := newNotices(fsnotify.NewWatcher)
			defer n.close()
			known, paths := newParsedSections(), []watchedPath{{f.dir, f.dir}}
			j := Join(Options{}, new(discovery.Registry), nil)
			live := 0
			update := func() {
				takeSurvey(n, paths)
				u := readPaths(paths, known)
				fingerprint(u)
				j.transact(b.Context(), []change{{0, u}}, func(context.Context, *snapshot.Snapshot) error { live++; return nil })
			}
			update()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				b.StopTimer()
				edit(fmt.Sprintf("/p%02d/", i%90))
				b.StartTimer()
				update()
			}
			if live != i+1 || j.Decodes() != 1000+i {
				b.Fatalf("%d changes: live %d times, %d decoded", i, live, j.Decodes())
			}
		})
	}
}
