package config

import "sync"

// A gathering waits for one change of each source and then makes them all at once.
type gathering struct {
	mu       sync.Mutex
	missing  int
	changes  []change
	verdicts [][]Verdict
	done     chan struct{}
	act      func([]change) [][]Verdict
}

func newGathering(n int, act func([]change) [][]Verdict) *gathering {
	return &gathering{missing: n, done: make(chan struct{}), act: act}
}

func (g *gathering) bring(c *change) []Verdict {
	g.mu.Lock()
	at := len(g.changes)
	if c != nil {
		g.changes = append(g.changes, *c)
	}
	g.missing--
	last := g.missing == 0
	g.mu.Unlock()
	if last {
		g.verdicts = g.act(g.changes)
		close(g.done)
	}
	<-g.done
	if c == nil {
		return nil
	}
	return g.verdicts[at]
}
