package conformance

// weightRows: HTTPRouteDestination.weight.
func weightRows() []Case {
	const (
		cite = "§2.2 HTTPRouteDestination weight"
		many = 10_000
		few  = 300
	)
	split := func(destinations string) string {
		return shop("- name: split\n  route: [" + destinations + "]")
	}
	one := "{destination: {host: reviews, subset: v1}, weight: "
	two := "{destination: {host: reviews, subset: v2}, weight: "
	three := "{destination: {host: reviews, subset: v3}, weight: "
	rows := []Case{
		{Name: "a share of what does not exist", Cite: cite + "; §6.5 missing backend 503", Config: split(one + "70}, {destination: {host: reviews, subset: v9}, weight: 30}"), Repeat: many,
			Shares: map[string]float64{v1: 70, "NC": 30}},
		{Name: "90 to 10", Config: split(one + "90}, " + two + "10}"), Repeat: many,
			Shares: map[string]float64{v1: 90, v2: 10}},
		{Name: "shares of any sum", Config: split(one + "3}, " + two + "1}"), Repeat: many,
			Shares: map[string]float64{v1: 75, v2: 25}},
		{Name: "three shares over 100", Config: split(one + "100}, " + two + "100}, " + three + "200}"), Repeat: many,
			Shares: map[string]float64{v1: 25, v2: 25, v3: 50}},
		{Name: "two hosts", Config: shop(`
- name: split
  route:
  - {destination: {host: reviews, subset: v2}, weight: 80}
  - {destination: {host: ratings}, weight: 20}`) + ratings(), Repeat: many,
			Shares: map[string]float64{v2: 80, ratingsAt: 20}},
		{Name: "0 among several is no traffic", Config: split(one + "0}, " + two + "100}"), Repeat: few,
			Shares: map[string]float64{v1: 0, v2: 100}},
		{Name: "no weight among several is no traffic", Config: split("{destination: {host: reviews, subset: v1}}, " + two + "1}"), Repeat: few,
			Shares: map[string]float64{v1: 0, v2: 100}},
		{Name: "a lone weight of 0 gets all", Config: split(two + "0}"), Repeat: few,
			Shares: map[string]float64{v2: 100}},
		{Name: "a lone weight of 1 gets all", Config: split(two + "1}"), Repeat: few,
			Shares: map[string]float64{v2: 100}},
		{Name: "a lone destination without a weight gets all", Config: split("{destination: {host: reviews, subset: v2}}"), Repeat: few,
			Shares: map[string]float64{v2: 100}},
	}
	for i := range rows {
		rows[i].Request = get(reviewsURL)
		if rows[i].Cite == "" {
			rows[i].Cite = cite + "; §6.6"
		}
	}
	return rows
}
