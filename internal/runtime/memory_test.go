package runtime

import (
	goruntime "runtime"
	"testing"

	"github.com/heddlemesh/mesh/internal/services"
)

// BenchmarkReload makes one document of 3,001 new: the others are not parsed and decoded again, all of them are compiled.
func BenchmarkReload(b *testing.B) {
	text := services.YAML(1000, true)
	_, log := newJournal()
	r, err := New(b.Context(), Options{Inline: [][]byte{nil}, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if err := r.Apply(b.Context(), []byte(text+services.Entry(1000+n%2))); err != nil {
			b.Fatal(err)
		}
	}
}

// TestMemoryOfServices: what a mesh keeps of a service with three endpoints that nobody has called yet, and of one with a rule, two subsets
// and a policy too. It was 26 and 66 KB when the YAML's nodes were kept. The test is not parallel: it counts the whole heap.
func TestMemoryOfServices(t *testing.T) {
	const many = 500
	heap := func() int64 {
		goruntime.GC() // twice: what pools hold is gone after the second
		goruntime.GC()
		var m goruntime.MemStats
		goruntime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, row := range []struct {
		name  string
		ruled bool
		most  int64 // bytes of a service
	}{
		{"plain", false, 15 << 10},
		{"ruled", true, 40 << 10},
	} {
		text := services.YAML(many, row.ruled)
		_, log := newJournal()
		r, err := New(t.Context(), Options{Inline: [][]byte{nil}, Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		before := heap()
		if err := r.Apply(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		each := (heap() - before) / many
		if n := len(r.Engine.Snapshot().Clusters); n < many {
			t.Errorf("%d clusters", n)
		}
		t.Logf("%s: %d bytes each", row.name, each)
		if each > row.most {
			t.Errorf("%s: a service takes %d bytes, at most %d", row.name, each, row.most)
		}
		r.Close()
	}
}
