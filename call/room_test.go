package call_test

import (
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

func TestRoom(t *testing.T) {
	var none *call.Room
	if got := none.Join("a", "", "b"); got != "ab" {
		t.Errorf("without a room: %q", got)
	}
	var r call.Room
	var given []string
	var want []string
	for i := range 1000 { // the buffer moves under way
		text := strings.Repeat("x", i%37)
		given = append(given, r.Join("<", text, ">"))
		want = append(want, "<"+text+">")
	}
	for i := range given {
		if given[i] != want[i] {
			t.Fatalf("text %d is %q, want %q", i, given[i], want[i])
		}
	}
	left := r.Join("good ", "to the end")
	r.Leave()
	r.Join("something else altogether")
	r.Empty()
	r.Join("something else altogether")
	if left != "good to the end" {
		t.Errorf("a text that was left is %q", left)
	}
	if r.Join(); r.Join() != "" {
		t.Error("nothing is something")
	}
	n := testing.AllocsPerRun(100, func() {
		r.Empty()
		if r.Join("/new", "/reviews", "?x=y") != "/new/reviews?x=y" {
			t.Error("another text")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
