package balance

// An ID is the identity of an endpoint's record: comparable, and the same under all its definitions.
type ID struct{ state *state }

// ID gives the identity by which a driver keeps what belongs to the endpoint: connections, say.
func (e *Endpoint) ID() ID { return ID{e.state} }

// Withdraw takes back a Begin: the attempt was never made. It reports whether the connections can go, as
// End does.
func (e *Endpoint) Withdraw() (release bool) {
	e.state.total.Add(^uint64(0))
	return e.state.active.Add(-1) == 0 && e.state.retired.Load()
}
