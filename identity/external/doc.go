// Package external says what somebody else than the policies themselves is asked about a request (AuthorizationPolicy
// action CUSTOM), and what he may answer: the question, the answer with its changes to headers, the settings of a
// provider (MeshConfig extensionProviders), and the question by Envoy's HTTP (envoyExtAuthzHttp).
//
// It decides nothing by itself, and does not know when somebody is asked: that is package transport's. Envoy's gRPC is in
// identity/extauthz, so that programs without gRPC need not link it.
//
//	mesh.WithAuthorizer("office-hours", external.AuthorizerFunc(
//		func(ctx context.Context, c *external.Check) (external.Answer, error) {
//			return external.Answer{Allowed: c.Time.Hour() >= 8}, nil
//		}))
//
// Layer L2.
package external
