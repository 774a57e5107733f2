// Package conformance is one table of what Heddle must do: configuration in Istio's YAML, who calls, the
// request, and what must come out of it. Every driver of the engine runs the table, so that the
// library, gRPC and the proxy give the same answer for the same YAML. What a driver cannot say it leaves out, and
// says why (Driver.Adapt). The drivers are in driver.go (net/http), driver_proxy.go and grpc_test.go.
//
//	for _, c := range conformance.Cases() {
//		b := conformance.NewBench(t, &c, nil)
//		for _, problem := range c.Check(conformance.HTTP{}.Do(t, &c, b)) {
//			t.Error(problem)
//		}
//	}
//
// The expected columns are written by hand from Istio's and Envoy's documents, never recorded from a run;
// each row cites its source ("§" is a section of reference/istio-semantics.md, DESIGN.md is named where it
// decides). Where Heddle departs from Istio on purpose the row says so in Deviation.
//
// A table that cannot fail proves nothing: for every group there are mutations, deliberate faults put into
// the compiled snapshot, and the group has to notice each of them. It is not a test of the YAML decoder and
// measures no speed. Layer L10.
package conformance
