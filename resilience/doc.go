// Package resilience holds policies that decide what to do about failure and overload, as functions of what
// happened: no timers, no input or output of its own, and no clock but that of [Breaker].
//
//	p := resilience.DefaultRetry()
//	if p.Judge(&outcome, true) == resilience.Repeated && retries < p.Attempts {
//		wait := p.Backoff.Wait(retries+1, rand.Uint64())
//		…
//	}
//
// Layer L1.
package resilience
