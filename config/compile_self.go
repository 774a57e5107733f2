package config

import (
	"cmp"

	networking "istio.io/api/networking/v1alpha3"
)

// ownService gives the host of the service that the workload is an endpoint of: its metrics are of that service where a request names none
// that is known, as Istio has it of its inbound cluster. It is "" where there are none or several.
func (c *compiler) ownService(docs []*document) string {
	own := ""
	for _, d := range docs {
		if d.entry == nil || d.key.Namespace != c.workload.Namespace || !c.serves(d.entry) {
			continue
		}
		for _, h := range d.entry.GetHosts() {
			s := c.byHost[canonicalName(h)]
			if !d.declares(s) || s.alias != nil {
				continue
			}
			if own != "" && own != s.host {
				return ""
			}
			own = s.host
		}
	}
	return own
}

// serves reports whether the workload is one of an entry's: its selector picks it, or an endpoint written there has its labels and, where
// that says whose it is, its account.
func (c *compiler) serves(se *networking.ServiceEntry) bool {
	if selector := se.GetWorkloadSelector().GetLabels(); len(selector) > 0 {
		return hasLabels(c.workload.Labels, selector)
	}
	for _, e := range se.GetEndpoints() {
		if labels := e.GetLabels(); len(labels) > 0 && hasLabels(c.workload.Labels, labels) && cmp.Or(e.GetServiceAccount(), c.workload.ServiceAccount) == c.workload.ServiceAccount {
			return true
		}
	}
	return false
}
