package config

// The codes of findings about kinds and sets.
const (
	codeRestricts = "HDL0002" // a kind that restricts traffic and cannot be enforced
	codeNotServed = "HDL0003" // a kind of the mesh without effect here
	codePublish   = "HDL0010" // a snapshot that could not be made live
	codeTaken     = "HDL0011" // a host that a Kubernetes Service has
	codeLimits    = "HDL0013" // a limit or a circuit breaker that is for nothing
	codeUnproved  = "HDL0014" // a policy that names callers, whom nobody has verified
	codeConflict  = "HDL0012" // a delegate's rule that contradicts the one that hands over to it
)
