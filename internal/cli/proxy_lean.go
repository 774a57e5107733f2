package cli

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/heddlemesh/mesh/config"
)

// restTime is how long after a change the memory that reading it took is given back: not while changes follow each other.
const restTime = time.Second

// A leanSource gives back to the system what was needed to read and compile a configuration: many times what is kept, and the sidecar would
// have it until it has made as much garbage again, which by itself it hardly makes any of.
type leanSource struct{ config.Source }

// Run implements config.Source.
func (s leanSource) Run(ctx context.Context, apply func(config.Update) []config.Verdict) error {
	rest := time.AfterFunc(restTime, debug.FreeOSMemory)
	defer rest.Stop()
	return s.Source.Run(ctx, func(u config.Update) []config.Verdict {
		defer rest.Reset(restTime)
		return apply(u)
	})
}

// Kept implements config.Keeper for a source that is one.
func (s leanSource) Kept(refused *config.ConfigError) (config.Update, bool) {
	if k, ok := s.Source.(config.Keeper); ok {
		return k.Kept(refused)
	}
	return config.Update{}, false
}
