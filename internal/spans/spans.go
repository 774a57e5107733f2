// Package spans keeps spans in memory, for tests. Layer L8.
//
//	ended, provider := spans.Keep(t)
//	m, err := mesh.New(ctx, mesh.WithTracerProvider(provider))
//	first := <-ended
package spans

import (
	"context"
	"testing"

	"github.com/heddlemesh/mesh/telemetry/export"
)

// Ended has each span that has ended.
type Ended <-chan export.Span

// most is how many wait for the test; what makes more of them waits itself.
const most = 10_000

// Keep makes a provider of which all spans that end are kept, until the test is over.
func Keep(t testing.TB) (Ended, *export.Provider) {
	t.Helper()
	ended := make(keeper, most)
	p := export.NewProvider(ended, export.BatchOptions{Batch: 1})
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return Ended((chan export.Span)(ended)), p
}

type keeper chan export.Span

// Export implements export.Exporter, as does Close.
func (k keeper) Export(ctx context.Context, list []export.Span) error {
	for _, s := range list {
		select {
		case k <- s:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (keeper) Close() error { return nil }
