package config

// The codes of findings about what fields say. Those of istioctl's analyzers are theirs.
const (
	codeUnreachable = "IST0130" // a rule that no request gets to
	codeIneffective = "IST0131" // a match that repeats an earlier one
	codeUnbuilt     = "HDL0008" // valid in Istio, not built in this version
	codeDoubtful    = "HDL0009" // accepted, but hardly what was meant
)
