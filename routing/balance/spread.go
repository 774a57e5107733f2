package balance

import "slices"

// overProvisioning is how much of its traffic's growth a level is trusted with: while 1/1.4 of its endpoints
// are healthy it takes all (Envoy's overprovisioning_factor, in percent).
const overProvisioning = 140

// spread says how many percent of the calls each level takes, and which levels are in panic: all their
// endpoints are used, ejected or not. There is a verdict on at least one level. The rules and their roundings
// are Envoy's (LoadBalancerBase::recalculatePerPriorityState and recalculatePerPriorityPanic):
//
//   - a level can take min(100, 1.4 · healthy percent); what it cannot take goes to the next;
//   - where all together cannot take 100 it is divided by what they can;
//   - only then are levels with less than threshold percent healthy in panic; where all are, or where nothing
//     is healthy and the threshold is not 0, each takes its share of the endpoints.
func spread(levels []Level, threshold uint8) (loads []int, panics []bool) {
	loads, panics = make([]int, max(len(levels), 1)), make([]bool, max(len(levels), 1))
	if len(levels) == 0 {
		return loads, panics
	}
	able, fit, total := make([]int, len(levels)), make([]int, len(levels)), make([]int, len(levels))
	sum, all := 0, 0
	for i := range levels {
		for _, g := range levels[i].Groups {
			total[i] += len(g.Endpoints)
			fit[i] += Healthy(g.Endpoints)
		}
		if total[i] > 0 {
			able[i] = min(100, overProvisioning*fit[i]/total[i])
		}
		sum += able[i]
		all += total[i]
	}
	sum = min(sum, 100)
	left, first := 100, -1
	if sum > 0 {
		for i := range levels {
			loads[i] = min(left, able[i]*100/sum)
			left -= loads[i]
			if first < 0 && able[i] > 0 {
				first = i
			}
		}
		loads[first] += left // roundings
	}
	if sum == 100 {
		return loads, panics
	}
	for i := range levels {
		panics[i] = 100*fit[i] < int(min(threshold, 100))*total[i]
	}
	if !slices.Contains(panics, false) {
		left = 100
		for i := range levels {
			loads[i] = 100 * total[i] / all
			left -= loads[i]
		}
		loads[0] += left
	}
	return loads, panics
}
