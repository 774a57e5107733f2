// Package accesslog writes one line for each request: in Istio's text or JSON format or one of Envoy's command operators, for
// the requests that a filter lets through, into files.
//
//	format, err := accesslog.ParseText(accesslog.DefaultText)
//	filter, err := accesslog.ParseFilter("response.code >= 400 || !connection.mtls")
//	logs := accesslog.New(nil, map[string]io.Writer{"/dev/stdout": os.Stdout})
//	logs.Set(&accesslog.Plan{telemetry.Destination: {{Path: "/dev/stdout", Format: format, Filter: filter}}})
//	…
//	logs.Log(entry)
//
// Nothing of a request can end a line or a quoted text in it: control characters, quotes and backslashes are escaped. Writing
// waits for nobody: each file has a goroutine of its own and a bounded buffer, and lines beyond that are counted.
//
// It decides nothing about requests and knows no connection. Layer L2.
package accesslog
