package http1

import "testing"

func TestBufferClasses(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{
		0: 8 << 10, 1: 8 << 10, 8 << 10: 8 << 10, 8<<10 + 1: 16 << 10, 16 << 10: 16 << 10, 16<<10 + 1: 32 << 10, 33 << 10: 64 << 10,
		64<<10 + 1: 128 << 10, 128 << 10: 128 << 10, 1 << 30: 128 << 10,
	} {
		b := takeBuffer(size, nil)
		if len(b.b) != want || cap(b.b) != want || len(b.b) != minBuffer<<b.class {
			t.Errorf("%d bytes: a buffer of %d, class %d", size, len(b.b), b.class)
		}
		putBuffer(b)
	}
	putBuffer(nil)
}

func TestBufferTwice(t *testing.T) {
	t.Parallel()
	b := newBuffer(0)
	b.free = true
	defer func() {
		if recover() == nil {
			t.Error("handed back twice without a word")
		}
	}()
	putBuffer(b)
}
