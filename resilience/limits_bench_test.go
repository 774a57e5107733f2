package resilience_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/heddlemesh/mesh/resilience"
)

// BenchmarkRateLimit: a limiter beside x/time/rate as it comes. What the limiter saves is the clock, which the engine has
// read already; what it adds is the look for a key.
func BenchmarkRateLimit(b *testing.B) {
	q := ofUser("someone")
	const plenty = 1_000_000_000
	def := resilience.RateLimit{Requests: plenty, Per: time.Second, Burst: plenty}
	keyed := def
	keyed.By, keyed.MaxKeys = []resilience.LimitKey{userKey}, 10_000
	b.Run("x/time/rate.Allow", func(b *testing.B) {
		l := rate.NewLimiter(plenty, plenty)
		b.ReportAllocs()
		for b.Loop() {
			l.Allow()
		}
	})
	for _, c := range []struct {
		name string
		def  resilience.RateLimit
		keys int
	}{{"one bucket", def, 0}, {"by header, 1 key", keyed, 1}, {"by header, 10000 keys", keyed, 10_000}} {
		b.Run(c.name, func(b *testing.B) {
			l := resilience.NewLimiter(c.def)
			for i := range c.keys {
				l.Take(0, ofUser(fmt.Sprint(i)), resilience.Known{})
			}
			now := time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				now += 100
				l.Take(now, q, resilience.Known{})
			}
		})
	}
}

// BenchmarkBreaker: an attempt through a breaker beside gobreaker as it comes, in both its forms.
func BenchmarkBreaker(b *testing.B) {
	settings := gobreaker.Settings{Interval: 10 * time.Second, BucketPeriod: time.Second}
	errAny := errors.New("x")
	b.Run("gobreaker.Execute", func(b *testing.B) {
		cb := gobreaker.NewCircuitBreaker[int](settings)
		b.ReportAllocs()
		for b.Loop() {
			_, _ = cb.Execute(func() (int, error) { return 0, nil })
		}
	})
	b.Run("gobreaker two-step", func(b *testing.B) {
		cb := gobreaker.NewTwoStepCircuitBreaker[int](settings)
		b.ReportAllocs()
		for b.Loop() {
			done, err := cb.Allow()
			if err != nil {
				b.Fatal(errAny)
			}
			done(nil)
		}
	})
	b.Run("Breaker", func(b *testing.B) {
		br := resilience.NewBreaker(resilience.CircuitBreaker{Percent: 50, Minimum: 20, Window: 10 * time.Second, OpenFor: time.Second, Probes: 1})
		b.ReportAllocs()
		for b.Loop() {
			p, _ := br.Enter()
			p.Record(&passing)
			p.Release()
		}
	})
	b.Run("none", func(b *testing.B) {
		var br *resilience.Breaker
		b.ReportAllocs()
		for b.Loop() {
			p, _ := br.Enter()
			p.Record(&passing)
			p.Release()
		}
	})
}
