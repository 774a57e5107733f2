package config

import (
	"slices"
	"strings"
	"testing"
)

// eachObject gives every object of every kind to f, those that several kinds share once for each.
func eachObject(f func(s *kindShape, o *objectShape, register objectEntry)) {
	for _, kind := range registeredKinds {
		s := shapeOf(kind)
		for _, o := range s.objects {
			f(s, o, s.register[o.name])
		}
	}
}

// TestEveryFieldIsRegistered: nothing is silent. It walks the descriptors and the structs, and fails for a field that
// the register does not have, and for a line of it that is about nothing.
func TestEveryFieldIsRegistered(t *testing.T) {
	t.Parallel()
	for kind, info := range kinds {
		if (info.state == kindServed) != slices.Contains(registeredKinds, kind) {
			t.Errorf("kind %s: served %v, and the register says otherwise", kind, info.state == kindServed)
		}
	}
	known := make(map[string]bool)
	eachObject(func(s *kindShape, o *objectShape, register objectEntry) {
		known[o.name] = true
		wanted := make(map[string]bool)
		for _, f := range o.fields {
			wanted[f.name] = true
			for _, value := range f.values {
				wanted[f.name+"="+value] = true
			}
			if _, ok := register.entry(f.name, ""); !ok {
				t.Errorf("%s (%s in %s) has no entry in the register", o.name+"."+f.name, o.places[0], s.kind)
			}
		}
		seen := make(map[string]bool)
		for _, e := range register.fields {
			if !wanted[e.name] || seen[e.name] {
				t.Errorf("%s.%s is in the register twice, or is no field that a document reaches", o.name, e.name)
			}
			seen[e.name] = true
		}
	})
	for name := range newRegister() {
		if !known[name] {
			t.Errorf("%s is in the register, and no field that is honoured leads to it", name)
		}
	}
}

// TestTheRegisterIsTrue: validation does with each field, and each value of an enumeration, what the register says.
func TestTheRegisterIsTrue(t *testing.T) {
	t.Parallel()
	eachObject(func(s *kindShape, o *objectShape, register objectEntry) {
		for i := range o.fields {
			f := &o.fields[i]
			values := f.values
			if len(values) == 0 {
				values = []string{""}
			}
			for _, value := range values {
				e, ok := register.entry(f.name, value)
				if !ok {
					continue // TestEveryFieldIsRegistered says so
				}
				text, path, err := s.sample(o, f, value)
				if err != nil {
					t.Errorf("%s.%s: %v", o.name, f.name, err)
					continue
				}
				found, err := s.judge(o, f, value)
				if err != nil {
					t.Error(err)
					continue
				}
				got := outcomeOf(found)
				if got == Honoured && (e.outcome == Idle || value != "" && value == f.values[0]) {
					continue // there is nothing to say, or it is the default that is written out
				}
				if got != e.outcome {
					t.Errorf("%s.%s %s: the register says %s, validation %s\n%v\n%s", o.name, f.name, value, e.outcome, got, found, text)
				}
				for _, f := range found {
					if f.Line < 1 || f.Column < 1 {
						t.Errorf("%s without a position: %v", path, f)
					}
				}
			}
		}
	})
}

// outcomeOf reads what validation says of a field. What is doubtful is carried out all the same: an old spelling, say.
func outcomeOf(found []Finding) Outcome {
	for _, f := range found {
		switch {
		case f.Refused:
			return Refused
		case f.Level == Info:
			return Idle
		case f.Code == codeUnbuilt || f.Code == codeNotServed || strings.Contains(f.Message, "ignored") || strings.Contains(f.Message, "without effect") || strings.Contains(f.Message, "no effect"):
			return Warned
		}
	}
	return Honoured
}

// TestRegisteredKinds: what others read is the register, whole and with reasons.
func TestRegisteredKinds(t *testing.T) {
	t.Parallel()
	list, err := RegisteredKinds()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[Outcome]int)
	for _, k := range list {
		for _, o := range k.Objects {
			for _, f := range o.Fields {
				counts[f.Outcome]++
				if f.Outcome != Honoured && f.Why == "" {
					t.Errorf("%s: %s is %s, and nobody says why", k.Kind, f.Key(), f.Outcome)
				}
				if f.Type == "" || f.Name == "" || f.Object != o.Name {
					t.Errorf("%s: incomplete: %+v", k.Kind, f)
				}
			}
		}
		t.Logf("%s: %d objects", k.Kind, len(k.Objects))
	}
	for _, o := range []Outcome{Honoured, Idle, Warned, Refused} {
		if counts[o] == 0 {
			t.Errorf("no field is %s", o)
		}
	}
}
