package config

// The codes of findings about text and fields. IST0106 is istioctl's SchemaValidationError.
const (
	codeSchema      = "IST0106"
	codeUnreadable  = "HDL0001" // a path that cannot be read
	codeSkipped     = "HDL0004" // a document of a kind that is not the mesh's
	codeNoDocuments = "HDL0005"
	codeDuplicate   = "HDL0006" // two documents with one key
)

// Findings are kept within bounds, so that a file of garbage costs a page of errors and not the memory of
// the process.
const (
	maxDocumentFindings = 100
	maxFileFindings     = 1000
)
