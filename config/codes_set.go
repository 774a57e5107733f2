package config

// The codes of findings about kinds and sets.
const (
	codeRestricts = "HDL0002" // a kind that restricts traffic and cannot be enforced
	codeNotServed = "HDL0003" // a kind of the mesh without effect here
	codePublish   = "HDL0010" // a snapshot that could not be made live
)
