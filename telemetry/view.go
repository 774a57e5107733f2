package telemetry

import (
	"maps"
	"slices"
)

// A View is what becomes of Istio's metrics on their way out (Telemetry metrics[].overrides). It is immutable.
type View struct {
	// Overrides by reporter and name of the metric.
	Overrides [2]map[string]Override
}

// An Override is what becomes of one metric.
type Override struct {
	Disabled bool
	Remove   []string          // labels that are left out; series that then are the same are added up
	Set      map[string]string // labels with a fixed value, new ones or in the place of what there is
}

// apply changes a family. A nil view changes nothing.
func (v *View) apply(f *Family) {
	if v == nil {
		return
	}
	var source, destination Override
	source, destination = v.Overrides[Source][f.Name], v.Overrides[Destination][f.Name]
	if source.none() && destination.none() {
		return
	}
	kept := make([]Sample, 0, len(f.Samples))
	at := make(map[string]int, len(f.Samples))
	for _, s := range f.Samples {
		o := &source
		if s.Labels[0].Value == Destination.String() {
			o = &destination
		}
		if o.Disabled {
			continue
		}
		s.Labels = o.labels(s.Labels)
		key := string(appendLabels(nil, s.Labels))
		i, ok := at[key]
		if !ok {
			at[key] = len(kept)
			kept = append(kept, s)
			continue
		}
		kept[i].Value += s.Value
		if s.Distribution != nil {
			kept[i].Distribution.add(s.Distribution)
		}
	}
	f.Samples = kept
}

func (o *Override) none() bool { return !o.Disabled && len(o.Remove) == 0 && len(o.Set) == 0 }

// labels gives the list as it goes out.
func (o *Override) labels(list []Label) []Label {
	if len(o.Remove) == 0 && len(o.Set) == 0 {
		return list
	}
	var out []Label
	for _, l := range list {
		if slices.Contains(o.Remove, l.Name) {
			continue
		}
		if v, ok := o.Set[l.Name]; ok {
			l.Value = v
		}
		out = append(out, l)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Set)) {
		if !slices.ContainsFunc(list, func(l Label) bool { return l.Name == name }) {
			out = append(out, Label{name, o.Set[name]})
		}
	}
	return out
}
