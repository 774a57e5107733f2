// Package proxy is the sidecar: the mesh's engine for programs that are not written in Go. Layer L9.
//
//	guard := proxy.NewGuard(nil)
//	m, err := mesh.New(ctx, mesh.WithConfigPath("mesh.d"), mesh.WithDialer(guard.DialContext),
//		mesh.WithPassthrough(proxy.Passthrough(guard.DialContext)))
//	…
//	s, err := proxy.Start(proxy.Config{Mesh: m, Guard: guard,
//		Inbound:  []proxy.Inbound{{Listen: ":9080", App: "127.0.0.1:19080"}},
//		Outbound: "127.0.0.1:15001", Admin: "127.0.0.1:15000"})
//
// HTTP/1.1 is served on the wire: one goroutine for each connection of a client, which also speaks with the endpoint, by
// package http1, with TLS or without; what it does with a request stands in one place, exchange.serve. HTTP/2, and calls with
// copies for mirrors or by HTTP/2, are net/http's; there that place is forwarder.ServeHTTP. Neither decides anything about
// routes, balancing or retries: those are the mesh's, and the same as in a program that imports it.
//
// It is not httputil.ReverseProxy, from which it differs in these points:
//
//  1. What a client names in Connection is removed first, and never what others rely on: Host, Cookie,
//     Authorization, X-Forwarded-…, trace headers (RFC 9110 §7.6.1).
//  2. Only WebSockets are tunnelled, and CONNECT where it is allowed; an answer that switches protocols unasked is a 502, and bytes that came
//     before the answer are never taken for another request.
//  3. A response that breaks off is broken off, in every protocol, never ended as if it were whole.
//  4. A client's broken body is the client's fault (400), not the endpoint's.
//  5. At most eight 1xx answers are passed on; a status outside 100 to 599 is a 502.
//  6. Requests with two readings (a fragment, a space, two hosts, CONNECT where it is not allowed) are refused.
//  7. One Host goes on, in one spelling, and the host of an absolute target counts before the header's.
//  8. Every answer of our own is reported with Envoy's response flag and the details that led to it.
//  9. A field name that reads as one that frames a message where "_" is taken for "-", a method with small letters,
//     and TRACE are refused.
//  10. Expect goes on, and the 100 of the program is passed on at once; on the wire the sidecar says none of its own. A
//     client that hears nothing sends its body after a time of its choice (RFC 9110 §10.1.1), and is served.
//  11. Who calls, the program is told by x-forwarded-client-cert: who was proved by mutual TLS of the mesh, and nobody else.
//
// Config.Capture takes connections that the kernel has redirected: session.captured finds out where each meant to go and what is
// spoken on it; what is not HTTP is joined with an endpoint, or the program, there.
//
// It holds no gateway. Its identity is its Mesh's; the certificates of Inbound.TLS are its caller's.
package proxy
