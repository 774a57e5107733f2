package handover_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/handover"
)

// TestHungSuccessor: one that has the sockets and says nothing does not keep the next one from them for ever.
func TestHungSuccessor(t *testing.T) {
	t.Parallel()
	at, told := socket(t), make(chan error, 2)
	o, err := handover.ServeWithin(at, func() []handover.Socket { return nil }, func() { t.Error("it stopped for nobody") }, func(err error) { told <- err }, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	for range 2 {
		hung, err := handover.Take(t.Context(), at)
		if err != nil || hung == nil {
			t.Fatalf("%v, %v", hung, err)
		}
		t.Cleanup(hung.Close)
		if err := <-told; !strings.Contains(err.Error(), "did not get ready") || !strings.Contains(err.Error(), "timeout") {
			t.Error(err)
		}
		if err := hung.Ready(t.Context()); err == nil {
			t.Error("it has taken over too late")
		}
	}
}

// TestReadyUnheard: a predecessor that says something else, and one that says nothing, are told apart.
func TestReadyUnheard(t *testing.T) {
	t.Parallel()
	for says, want := range map[string]string{"never\n": `it says "never\n"`, "yo": "unexpected EOF", "": "EOF"} {
		at := socket(t)
		end := pretend(t, at, func(c net.Conn) {
			_, _ = io.WriteString(c, `{"protocol":1,"names":[]}`+"\n")
			_, _ = io.ReadFull(c, make([]byte, len(handover.ReadyWord)))
			_, _ = io.WriteString(c, says)
		})
		taken, err := handover.Take(t.Context(), at)
		if err != nil || taken == nil {
			t.Fatalf("%v, %v", taken, err)
		}
		if err := taken.Ready(t.Context()); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v", says, err)
		}
		end()
	}
}
