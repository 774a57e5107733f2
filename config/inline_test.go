package config

import (
	"context"
	"testing"
)

// TestInlineKeepsItsOwn: the program may reuse its buffers once its call has returned, even when that was
// because the context ended before the source came to read them.
func inlineUpdate(docs [][]byte) Update { return newParsedSections().inline(docs) }

func TestInlineKeepsItsOwn(t *testing.T) {
	t.Parallel()
	text := []byte(doc("ServiceEntry", "a", reviewsEntry))
	s := NewInline(text)
	clear(text)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Run(ctx, func(u Update) []Verdict {
		cancel()
		if len(u.Findings) != 0 || len(u.Upsert) != 1 {
			t.Errorf("the source reads the program's buffer: %v", u.Findings)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
