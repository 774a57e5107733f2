package config

// telemetryFields is what becomes of each field of a Telemetry.
func telemetryFields() register {
	const test, tracing, logs = "TestTelemetry", "TestTelemetryTracing", "TestAccessLogging"
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
			{name: "tracing", value: "[{randomSamplingPercentage: 10}]", test: tracing},
			{name: "accessLogging"},
			{name: "metrics"},
		}},
		"Telemetry.spec.selector": {test: test, fields: []fieldEntry{{name: "matchLabels", value: "{app: web}"}}},
		"Telemetry.spec.tracing": {test: tracing, fields: []fieldEntry{
			{name: "match"},
			{name: "providers", value: "[{name: otel}]", note: "the first; of MeshConfig's extensionProviders, where the program has mesh.WithTraceCollectors, as heddle proxy does"},
			{name: "randomSamplingPercentage", value: "10", note: "of traces that begin here; default 1"},
			{name: "disableSpanReporting", value: "true", note: "trace context goes on as it came"},
			{name: "customTags", value: "{team: {literal: {value: shop}}}"},
			{name: "useRequestIdForTraceSampling", value: "false"},
			{name: "enableIstioTags", value: "false"},
			{name: "disableContextPropagation", value: "true"},
		}},
		"Telemetry.spec.tracing.match":     {test: tracing, fields: []fieldEntry{{name: "mode", value: "CLIENT", note: "CLIENT, SERVER or CLIENT_AND_SERVER"}}},
		"Telemetry.spec.tracing.providers": {test: tracing, fields: []fieldEntry{{name: "name", value: "otel"}}},
		"Telemetry.spec.tracing.customTags": {test: tracing, fields: []fieldEntry{
			{name: "literal", value: "{value: shop}"},
			{name: "environment", value: "{name: TEAM}", note: "where the program has mesh.WithTraceCollectors; otherwise defaultValue"},
			{name: "header", value: "{name: x-team}"},
			{name: "formatter", outcome: Warned, value: "{value: '%PROTOCOL%'}"},
		}},
		"Telemetry.spec.tracing.customTags.literal":     {test: tracing, fields: []fieldEntry{{name: "value", value: "shop"}}},
		"Telemetry.spec.tracing.customTags.environment": {test: tracing, needs: "{name: TEAM}", fields: []fieldEntry{{name: "name", value: "TEAM"}, {name: "defaultValue", value: "none"}}},
		"Telemetry.spec.tracing.customTags.header":      {test: tracing, needs: "{name: x-team}", fields: []fieldEntry{{name: "name", value: "x-team"}, {name: "defaultValue", value: "none"}}},
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

// collectorFields is what becomes of each field of those of MeshConfig's extensionProviders that take spans.
func collectorFields() register {
	const test = "TestTraceProviders"
	address := []fieldEntry{
		{name: "service", value: "otel.default.svc.cluster.local"},
		{name: "port", value: "4317"},
		{name: "maxTagLength", value: "64", note: "characters of texts that a caller has written; default 256"},
	}
	const needs = "{service: otel, port: 4317}"
	return register{
		"MeshConfig.ExtensionProvider.ZipkinTracingProvider": {test: test, needs: needs, fields: append(address[:3:3],
			fieldEntry{name: "enable64bitTraceId", outcome: Idle, value: "true", note: "IDs have 128 bits"},
			fieldEntry{name: "path", value: "/spans", note: "default /api/v2/spans"},
			fieldEntry{name: "traceContextOption", value: "USE_B3_WITH_W3C_PROPAGATION"},
			fieldEntry{name: "timeout", value: "1s"},
			fieldEntry{name: "headers", value: "[{name: x-a, value: b}]"})},
		"MeshConfig.ExtensionProvider.OpenTelemetryTracingProvider": {test: test, needs: needs, fields: append(address[:3:3],
			fieldEntry{name: "http", value: "{path: /v1/traces}"},
			fieldEntry{name: "grpc", value: "{timeout: 1s}"},
			fieldEntry{name: "resourceDetectors", value: "{environment: {}}"},
			fieldEntry{name: "serviceAttributeEnrichment", outcome: Warned, value: "OTEL_SEMANTIC_CONVENTIONS"},
			fieldEntry{name: "dynatraceSampler", outcome: Warned, value: "{tenant: a, clusterId: 1}"})},
		"MeshConfig.ExtensionProvider.HttpHeader": {test: test, needs: "{name: x-a}", fields: []fieldEntry{
			{name: "name", value: "x-a"}, {name: "value", value: "b"}, {name: "envName", value: "TOKEN"}}},
		"MeshConfig.ExtensionProvider.HttpService": {test: test, fields: []fieldEntry{
			{name: "path", value: "/v1/traces"}, {name: "timeout", value: "1s"}, {name: "headers", value: "[{name: x-a, value: b}]"}}},
		"MeshConfig.ExtensionProvider.GrpcService": {test: test, fields: []fieldEntry{
			{name: "timeout", value: "1s"}, {name: "initialMetadata", value: "[{name: x-a, value: b}]"}}},
		"MeshConfig.ExtensionProvider.ResourceDetectors": {test: test, fields: []fieldEntry{
			{name: "environment", value: "{}", note: "OTEL_RESOURCE_ATTRIBUTES, which is read in any case"},
			{name: "dynatrace", outcome: Warned, value: "{}"}}},
	}
}
