package config

// telemetryFields is what becomes of each field of a Telemetry.
func telemetryFields() register {
	const test, logs = "TestTelemetry", "TestAccessLogging"
	return register{
		"Telemetry": {test: test, fields: []fieldEntry{
			{name: "metadata", value: "{name: reviews}", note: "name and namespace"},
			{name: "spec"},
			{name: "status", outcome: Idle, value: "{observedGeneration: 1}", note: "what istiod has said of it"},
		}},
		"Telemetry.spec": {test: test, fields: []fieldEntry{
			{name: "selector", note: "none: every workload of the namespace; in the root namespace, of the mesh"},
			{name: "targetRef", outcome: Warned, value: "{kind: Gateway, name: x}"},
			{name: "targetRefs", outcome: Warned, value: "[{kind: Gateway, name: x}]"},
			{name: "tracing", outcome: Warned, value: "[{randomSamplingPercentage: 10}]"},
			{name: "accessLogging"},
			{name: "metrics"},
		}},
		"Telemetry.spec.selector": {test: test, fields: []fieldEntry{{name: "matchLabels", value: "{app: web}"}}},
		"Telemetry.spec.accessLogging": {test: logs, fields: []fieldEntry{
			{name: "match"},
			{name: "providers", value: "[{name: envoy}]", note: "none: those of the level above, or MeshConfig's"},
			{name: "disabled", value: "true"},
			{name: "filter"},
		}},
		"Telemetry.spec.accessLogging.match": {test: logs, fields: []fieldEntry{
			{name: "mode", value: "CLIENT", note: "CLIENT, SERVER or CLIENT_AND_SERVER"},
		}},
		"Telemetry.spec.accessLogging.providers": {test: logs, fields: []fieldEntry{
			{name: "name", value: "envoy", note: "envoy, or one of extensionProviders with envoyFileAccessLog"},
		}},
		"Telemetry.spec.accessLogging.filter": {test: logs, needs: `{expression: "response.code >= 400"}`, fields: []fieldEntry{
			{name: "expression", value: `"response.code >= 400"`, note: "comparisons and boolean operators of CEL over Envoy's attributes: docs/observability.md"},
		}},
		"Telemetry.spec.metrics": {test: test, fields: []fieldEntry{
			{name: "providers", value: "[{name: prometheus}]", note: "none: prometheus"},
			{name: "overrides"},
			{name: "reportingInterval", outcome: Idle, value: "5s", note: "of TCP, of which there are no metrics"},
		}},
		"Telemetry.spec.metrics.providers": {test: test, fields: []fieldEntry{
			{name: "name", value: "prometheus", note: "prometheus; what is said of others has no effect"},
		}},
		"Telemetry.spec.metrics.overrides": {test: test, fields: []fieldEntry{
			{name: "match"},
			{name: "disabled", value: "true"},
			{name: "tagOverrides", value: "{source_version: {operation: REMOVE}}"},
		}},
		"Telemetry.spec.metrics.overrides.match": {test: test, fields: []fieldEntry{
			{name: "metric", value: "REQUEST_COUNT", note: "those of TCP are accepted: there are none"},
			{name: "customMetric", outcome: Warned, value: "mine"},
			{name: "mode", value: "CLIENT", note: "CLIENT, SERVER or CLIENT_AND_SERVER"},
		}},
		"Telemetry.spec.metrics.overrides.tagOverrides": {test: test, fields: []fieldEntry{
			{name: "operation", value: "REMOVE", note: "REMOVE or UPSERT"},
			{name: "value", value: `"'shop'"`, note: "a text in quotes; what is made of a request is refused, other expressions are warned about"},
		}},
	}
}
