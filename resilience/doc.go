// Package resilience holds policies that decide what to do about failure, as pure functions of what
// happened: no clock, no timers, no input or output of its own.
//
//	p := resilience.DefaultRetry()
//	if p.Judge(&outcome, true) == resilience.Repeated && retries < p.Attempts {
//		wait := p.Backoff.Wait(retries+1, rand.Uint64())
//		…
//	}
//
// Layer L1.
package resilience
