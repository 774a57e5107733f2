// Package transport runs calls: it resolves the host, matches a rule, picks an endpoint, sends, classifies
// the outcome, retries and accounts.
//
// The [Engine] decides and knows no protocol; drivers send. The driver here is [RoundTripper], for
// net/http, over one leaf transport for each endpoint. Whatever drives the engine does the same steps:
//
//	var c transport.Call
//	step := engine.Begin(ctx, &c, &q)      // which rule, which cluster, or why not
//	for {
//		attempt, err := c.Pick(nil)         // one endpoint
//		…send to attempt.Endpoint…
//		attempt.Answered(outcome)           // at the response head, or at the failure
//		wait, again := c.Next(outcome)
//		…
//		attempt.Finish()                    // once, at the body's end
//	}
//	c.End(err)
//
// It reads no configuration and imports no document format. Layer L5.
package transport
