package balance

// rounds orders the claims on a Maglev table: those of a round, by the order of their keys, and then those of
// the next. Envoy asks every endpoint in every round, which for one heavy endpoint and thousands of light ones
// is thousands of questions for each place; here an endpoint stands where its next place comes.
type rounds struct {
	claims []claim
	heap   []turn // the smallest first
	equal  bool   // all have the same share: they take turns, and the first of the heap is all there is of it
}

type turn struct {
	round float64
	claim uint32
}

func newRounds(claims []claim) *rounds {
	r := &rounds{claims, make([]turn, len(claims)), true}
	for i := range claims {
		r.heap[i] = turn{1, uint32(i)} // in order already
		r.equal = r.equal && claims[i].share == claims[0].share
	}
	return r
}

// next gives whose turn it is, and in which round.
func (r *rounds) next() (*claim, float64) { return &r.claims[r.heap[0].claim], r.heap[0].round }

// again puts the claim whose turn it was where its next one comes.
func (r *rounds) again(round float64) {
	h := r.heap
	if r.equal {
		if h[0].claim++; h[0].claim == uint32(len(h)) {
			h[0] = turn{round + 1, 0}
		}
		return
	}
	t := turn{r.claims[h[0].claim].due(round), h[0].claim}
	at := 0
	for {
		child := 2*at + 1
		if child >= len(h) {
			break
		}
		if right := child + 1; right < len(h) && h[right].before(h[child]) {
			child = right
		}
		if t.before(h[child]) {
			break
		}
		h[at] = h[child]
		at = child
	}
	h[at] = t
}

func (t turn) before(o turn) bool {
	return t.round < o.round || t.round == o.round && t.claim < o.claim
}
