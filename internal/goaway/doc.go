// Package goaway tells the clients of an http.Server's HTTP/2 that it ends, in the two steps of RFC 9113 §6.8. net/http knows the second only:
// its GOAWAY names the last stream that has come by then, and drops those that are on their way. So before it every connection hears a
// GOAWAY that leaves none out, and a PING, whose answer says that the client has read it:
//
//	var g goaway.Goodbyes
//	g.Attach(srv) // before srv.Serve
//	…
//	g.Say()
//	g.Wait(ctx)
//	srv.Shutdown(ctx)
//
// It is not an implementation of HTTP/2: it follows the frames that net/http reads and writes, between which it says something of its own. It
// stands at the lowest layer, and imports the standard library only.
package goaway
