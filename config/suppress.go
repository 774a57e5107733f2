package config

import "strings"

// suppressAnnotation is istioctl's: codes with commas, or "*" (istio.io, galley.istio.io/analyze-suppress).
const suppressAnnotation = "galley.istio.io/analyze-suppress"

// Suppressed lists the codes of the findings that the document itself asks not to be shown, by istioctl's annotation
// galley.istio.io/analyze-suppress; "*" stands for all. What an analysis makes of it is its own affair: here nothing
// is left out.
func (r *Resource) Suppressed() []string {
	d, _ := r.parsed()
	if d == nil || d.annotations[suppressAnnotation] == "" {
		return nil
	}
	codes := strings.Split(d.annotations[suppressAnnotation], ",")
	for i := range codes {
		codes[i] = strings.TrimSpace(codes[i])
	}
	return codes
}
