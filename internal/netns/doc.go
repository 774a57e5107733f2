// Package netns gives tests network namespaces of their own, to which they can do what they like: rules, addresses, a second
// machine. It is for tests; it needs root and Linux, and is asked for by HEDDLE_NETNS=1.
//
//	func TestCapture(t *testing.T) {
//		if !netns.Enter(t) {
//			return // it has run in a process of its own
//		}
//		…
//
// Layer L0.
package netns
