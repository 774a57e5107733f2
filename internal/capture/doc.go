// Package capture makes the kernel hand a program's TCP connections to a sidecar: the rules that redirect them, and where a
// connection that was redirected meant to go. It knows no mesh, and needs CAP_NET_ADMIN for the rules only.
//
//	err := capture.Install(ctx, capture.Config{Backend: capture.NFTables}, capture.Run)
//	…
//	to, err := capture.OriginalDestination(conn) // in the sidecar, without a privilege
//
// The rules do what those of Istio's tool do, under names of their own: connections that the program makes go to the outbound
// port, those that it is sent to the inbound port; the sidecar's own, known by its user or group, do not, but for those to an
// address of the machine itself, which are calls of the program to itself. Everything that is foreign stays as it is, and in
// its order. Where nobody listens on the ports, connections are refused: capture fails closed.
//
// Layer L0.
package capture
