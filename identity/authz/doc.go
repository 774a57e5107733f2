// Package authz decides whether a request that has come in may be served: Istio's AuthorizationPolicy, compiled and
// indexed.
//
// It is not an authenticator: who the caller is, and which token was verified, is put into a [Request] by others. It
// reads no documents and answers nobody; a [Decision] says what is to be done, and which rule said so, for the log.
//
//	set, err := authz.New([]authz.Policy{{
//		Namespace: "default", Name: "no-admin", Action: authz.Deny,
//		Rules: []authz.Rule{{To: [][]authz.Term{{{Attribute: authz.Path, Values: []string{"/admin*"}}}}}},
//	}})
//	d := set.Decide(&q)
//
// An attribute can have several readings: a path and what it becomes when slashes are merged and escapes decoded, the
// values of a header. A rule that takes something away holds where one reading can make it hold, a rule that grants
// where every reading does. What is not known of a request — the name of a caller without a certificate, the claims of
// one without a token — makes no rule hold that grants and, as it could be anything, each that takes away.
//
// Layer L2.
package authz
