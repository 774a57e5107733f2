package accesslog_test

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// Row E-018 (attacks.md): whatever a log's place does, no request waits for it; what is lost is counted, and it recovers. Renaming is
// TestFileTurnedOver.

// TestFullDisk: a device that is full takes nothing, and a file that takes a part has whole lines when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &filling{room: 7}
		l := accesslog.New(nil, map[string]io.Writer{"disk": w})
		p := plan(t, "disk", "")
		l.Set(p)
		for _, path := range []string{"/1", "/2", "/345"} {
			l.Log(pathOnly(path))
		}
		time.Sleep(time.Second)
		synctest.Wait() // the writer has done with what is there
		w.room = 100
		l.Log(pathOnly("/6"))
		time.Sleep(time.Second)
		l.Close()
		if got := w.String(); got != "/1\n/2\n/\n/6\n" && got != "/1\n/2\n/3\n/6\n" {
			t.Errorf("the file has %q", got)
		}
		if c := l.Counts(); len(c) != 1 || c[0].Written != 3 || c[0].Dropped != 1 {
			t.Errorf("counts %v", c)
		}
	})
	l := accesslog.New(nil, nil)
	l.Set(plan(t, "/dev/full", ""))
	for range 100 {
		l.Log(pathOnly("/"))
	}
	l.Close()
	if c := l.Counts(); len(c) != 1 || c[0].Written != 0 || c[0].Dropped != 100 {
		t.Errorf("/dev/full: counts %v", c)
	}
}

// A filling disk has room for so many bytes.
type filling struct {
	strings.Builder
	room int
}

func (f *filling) Write(p []byte) (int, error) {
	n := min(len(p), f.room)
	f.room -= n
	_, _ = f.Builder.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// TestDirectoryRemoved: while the directory is gone lines are lost, and when it is there again they are written.
func TestDirectoryRemoved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs")
	path := filepath.Join(dir, "access.log")
	synctest.Test(t, func(t *testing.T) {
		l := accesslog.New(nil, nil)
		l.Set(plan(t, path, ""))
		for i, then := range []func() error{
			func() error { return os.Mkdir(dir, 0o700) },
			func() error { return os.RemoveAll(dir) },
			func() error { return os.Mkdir(dir, 0o700) },
			func() error { return nil },
		} {
			l.Log(pathOnly("/" + string(rune('0'+i))))
			time.Sleep(time.Second)
			if err := then(); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
		if got, err := os.ReadFile(path); string(got) != "/3\n" {
			t.Errorf("the file has %q, %v", got, err)
		}
		if c := l.Counts(); len(c) != 1 || c[0].Written != 2 || c[0].Dropped != 2 {
			t.Errorf("counts %v", c)
		}
	})
}

// TestSlowPipe: a pipe whose reader takes nothing costs requests nothing; when he reads he gets whole lines, and the rest is counted.
func TestSlowPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDWR, 0) // so that nobody waits for the other
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l := accesslog.New(nil, nil)
	l.Set(plan(t, path, ""))
	const n = 200_000
	for range n {
		l.Log(pathOnly("/0123456789"))
	}
	if l.Counts()[0].Dropped == 0 {
		t.Error("a pipe that nobody reads takes everything")
	}
	read := make(chan int)
	go func() {
		lines := 0
		for s := bufio.NewScanner(r); s.Scan(); lines++ {
			if s.Text() == "/end" {
				break
			}
			if s.Text() != "/0123456789" {
				t.Errorf("a line is %q", s.Text())
			}
		}
		read <- lines
	}()
	var c []accesslog.FileCounts
	for late := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if c = l.Counts(); c[0].Written+c[0].Dropped == n || time.Now().After(late) {
			break
		}
	}
	l.Log(pathOnly("/end")) // it has recovered
	if got := uint64(<-read); got != c[0].Written || c[0].Written+c[0].Dropped != n {
		t.Errorf("%d lines read, counts %v", got, c)
	}
	l.Close()
}
