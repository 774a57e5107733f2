// Package jwt verifies the JSON Web Tokens that requests bring: Istio's RequestAuthentication. A [Set] knows the issuers
// that a workload believes, where their tokens stand in a request and with which keys they are signed; [Set.Check] finds
// the token and says whose it is.
//
// It decides about nobody: a request without a token passes as nobody's, and what the claims allow is for package authz. It
// signs nothing, encrypts nothing, and takes no key from a token (RFC 7515 jwk, jku, x5u, x5c are not looked at).
//
//	keys, err := jwt.ParseKeySet(jwks)
//	set := jwt.New([]jwt.Rule{{Issuer: "https://issuer.example", Keys: keys}})
//	found := set.Check(&jwt.Request{Headers: h, Query: "…"}, time.Now())
//
// Keys that are not written down come from a [Fetcher], which asks for them in the background and never lets a request wait:
//
//	fetcher := jwt.NewFetcher(jwt.FetcherOptions{})
//	set = fetcher.Follow(ctx, jwt.New([]jwt.Rule{{Issuer: "https://issuer.example", Source: jwt.Source{URI: "https://issuer.example/jwks"}}}))
//
// Signatures are those of crypto/rsa, crypto/ecdsa and crypto/ed25519, which crypto/tls links anyway. An algorithm is one
// of the few that the key itself can be for, whatever the token says (RFC 8725 §3.1).
//
// Layer L2.
package jwt
