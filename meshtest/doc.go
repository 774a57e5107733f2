// Package meshtest puts mesh configuration under go test: an in-memory mesh with instances that are plain
// http.Handlers or gRPC services, faults to inject into them, and fake time. Layer L9.
//
//	func TestDeadInstance(t *testing.T) {
//		meshtest.Run(t, meshtest.Dir("mesh.d"), func(t *testing.T, e *meshtest.Env) {
//			e.HTTP("reviews", nil, reviews)
//			e.HTTP("reviews", nil, reviews).Inject(meshtest.RefuseConn())
//			for range 100 {
//				e.Get("http://reviews:9080/reviews/1") // an error fails the test and tells why
//			}
//		})
//	}
//
// What a test gets:
//
//  1. The configuration that production has, read once and never watched. Instances take the place of the
//     endpoints that the YAML gives their host, be it a ServiceEntry's or a Kubernetes Service; any other host gets
//     a ServiceEntry.
//  2. No network: connections are pipes in memory, names are resolved from the configuration, and a host
//     that is not in the test's mesh fails at once with an error that says so. What a mesh asks by itself, such as
//     a jwksUri of http, is an instance too.
//  3. The same choices in every run: weighted splits, balancing and faults by percentage follow from a seed.
//  4. Under [Run] the clock is testing/synctest's: a delay of 30 s costs no time.
//  5. When something fails, the story of the last call: the rule with file and line, the cluster, each
//     endpoint tried and what became of it, and why.
//
// It is not a stub of the mesh: calls run through the same engine, transport, HTTP and grpc-go as in production. It
// is not for benchmarks: connections are synchronous, and every call is written down.
package meshtest
