package jwt

// For tests from outside.
var (
	Discovered   = discovered
	ParseFetched = parseFetched
)
