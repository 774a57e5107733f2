package config

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	meshapi "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
)

// validate reports what is wrong or doubtful about a decoded document as it stands alone, in the order of
// its lines. What it says of other documents (a subset, a host) is not looked at. An accepted document is
// one without a finding that has Refused set.
func (d *document) validate() []Finding {
	v := validation{d: d}
	p := d.body()
	switch s := d.spec.(type) {
	case *networking.VirtualService:
		v.virtualService(p, s)
	case *networking.DestinationRule:
		v.destinationRule(p, s)
	case *networking.ServiceEntry:
		v.serviceEntry(p, s)
	case *networking.WorkloadEntry:
		v.workloadEntry(p, s)
	case *networking.Sidecar:
		v.sidecar(p, s)
	case *meshapi.MeshConfig:
		v.meshConfig(p, s)
	case *rateLimit:
		v.rateLimit(p, &s.Spec)
	case *resiliencePolicy:
		v.resiliencePolicy(p, &s.Spec)
	case *security.AuthorizationPolicy:
		v.authorizationPolicy(p, s)
	case *security.RequestAuthentication:
		v.requestAuthentication(p, s)
	case *peerAuthentication:
		v.peerAuthentication(&s.Spec)
	case *telemetryPolicy:
		v.telemetry(&s.Spec)
	case *kubeService:
		v.kubeService(&s.Spec)
	case *kubeSlice:
		v.kubeSlice(s)
	case *kubePod:
		v.kubePod(s)
	}
	sort.SliceStable(v.found, func(i, j int) bool { // not slices.SortStableFunc: more of every program
		a, b := &v.found[i], &v.found[j]
		return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
	})
	if v.refusals > maxDocumentFindings {
		v.found = append(v.found, d.refuse(p, "too many errors: the rest of the document's are not listed", ""))
	}
	if v.warnings > maxDocumentFindings {
		v.found = append(v.found, d.finding(Warning, codeDoubtful, false, p,
			"too many warnings: the rest of the document's are not listed", ""))
	}
	return v.found
}

// A validation is one walk over a decoded document.
type validation struct {
	d                  *document
	found              []Finding
	refusals, warnings int // met, not kept
}

// A fieldPath leads to a field, as the paths of document do.
type fieldPath []any

// at leads further; p stays as it is. In line it would be a sizeable part of every program.
//
//go:noinline
func (p fieldPath) at(steps ...any) fieldPath {
	to := make(fieldPath, len(p)+len(steps))
	copy(to[copy(to, p):], steps)
	return to
}

// keep counts a finding and says whether there is room for it. Refusals and warnings are limited apart, so
// that no number of warnings hides a refusal or becomes one.
func (v *validation) keep(refused bool) bool {
	n := &v.warnings
	if refused {
		n = &v.refusals
	}
	*n++
	return *n <= maxDocumentFindings
}

// refuse makes the document unacceptable.
func (v *validation) refuse(p fieldPath, message, hint string) {
	if v.keep(true) {
		v.found = append(v.found, v.d.refuse(p, message, hint))
	}
}

// refuseValue is refuse with a message that begins with what is written at p.
func (v *validation) refuseValue(p fieldPath, problem, hint string) {
	if v.keep(true) {
		v.found = append(v.found, v.d.refuse(p, v.d.rawAt(p...)+" "+problem, hint))
	}
}

// refuseKey is refuseValue for the key that stands at p.
func (v *validation) refuseKey(p fieldPath, problem, hint string) {
	if !v.keep(true) {
		return
	}
	key, value, _ := v.d.find(p)
	if key == nil {
		key = value
	}
	v.found = append(v.found, v.d.refuseAt(key, p, quoted(key.Value)+" "+problem, hint))
}

// doubt warns of something that is accepted and hardly meant.
func (v *validation) doubt(p fieldPath, message, hint string) { v.warn(p, codeDoubtful, message, hint) }

func (v *validation) warn(p fieldPath, code, message, hint string) {
	if v.keep(false) {
		v.found = append(v.found, v.d.finding(Warning, code, false, p, message, hint))
	}
}

// inform says what is only worth knowing.
func (v *validation) inform(p fieldPath, code, message, hint string) {
	if v.keep(false) {
		v.found = append(v.found, v.d.finding(Info, code, false, p, message, hint))
	}
}

// unbuilt refuses a field without which a request would go elsewhere or in another form, or be let through.
func (v *validation) unbuilt(p fieldPath, without string) {
	if v.keep(true) {
		v.found = append(v.found, v.d.finding(Error, codeUnbuilt, true, p,
			fieldName(p)+" is not built in this version yet", "remove it; it is refused and not ignored because "+without))
	}
}

// unenforced warns of fields that only add behaviour and do nothing yet.
func (v *validation) unenforced(p fieldPath, what string) {
	v.warn(p, codeUnbuilt, "without effect, not built in this version yet: "+what, "")
}

// fieldName is the last name of a path.
func fieldName(p fieldPath) string {
	for _, step := range slices.Backward(p) {
		if name, ok := step.(string); ok {
			return name
		}
	}
	return ""
}

// duration refuses what istiod does: less than a millisecond, or a fraction of one.
func (v *validation) duration(p fieldPath, d *durationpb.Duration) {
	if d == nil {
		return
	}
	switch t := d.AsDuration(); {
	case t < 0:
		v.refuseValue(p, "is negative", "write 1ms or more")
	case t < time.Millisecond:
		v.refuseValue(p, "is shorter than 1ms", "write 1ms or more")
	case t%time.Millisecond != 0:
		v.refuseValue(p, "has a fraction of a millisecond", "write whole milliseconds")
	}
}

// percent checks a share. Envoy counts in parts per million, so that less than one is no share at all.
func (v *validation) percent(p fieldPath, percent *networking.Percent) {
	switch n := percent.GetValue(); {
	case n < 0 || n > 100:
		v.refuseValue(p.at("value"), "is no percentage", "write 0 to 100")
	case n > 0 && n < 0.0001:
		v.refuseValue(p.at("value"), "is less than the smallest share, 0.0001", "write 0 or at least 0.0001")
	}
}

// whole checks a number that is counted from least to most.
func (v *validation) whole(p fieldPath, n, least, most int64) {
	switch {
	case n < 0 && least == 0:
		v.refuseValue(p, "is negative", fmt.Sprintf("write %d to %d", least, most))
	case n < least || n > most:
		v.refuseValue(p, "is out of range", fmt.Sprintf("write %d to %d", least, most))
	}
}

// port checks a port number that has to be there.
func (v *validation) port(p fieldPath, n uint32) {
	if n < 1 || n > 65535 {
		v.refuseValue(p, "is no port", "write a number from 1 to 65535")
	}
}

// setFields lists the fields of m that say something, dotted where they lie deeper, sorted.
func setFields(m proto.Message) []string {
	var names []string
	m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := fd.JSONName()
		if fd.Kind() != protoreflect.MessageKind || fd.IsList() || fd.IsMap() ||
			fd.Message().ParentFile().Package() == "google.protobuf" {
			names = append(names, name)
			return true
		}
		for _, inner := range setFields(value.Message().Interface()) {
			names = append(names, name+"."+inner)
		}
		return true
	})
	slices.Sort(names)
	return names
}

func listed(names []string) string { return strings.Join(names, ", ") }
