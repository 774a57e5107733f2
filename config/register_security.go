package config

// securityFields is what becomes of each field of a PeerAuthentication.
func securityFields() register {
	const modes = "UNSET, which is the mode of the policy above, DISABLE, PERMISSIVE or STRICT"
	return register{
		"PeerAuthentication": {test: "TestPeerAuthentication", fields: []fieldEntry{
			{name: "metadata", value: "{name: reviews}", note: "name and namespace"},
			{name: "spec"},
			{name: "status", outcome: Idle, value: "{observedGeneration: 1}", note: "what istiod has said of it"},
		}},
		"PeerAuthentication.spec": {test: "TestPeerAuthentication", fields: []fieldEntry{
			{name: "selector"},
			{name: "mtls"},
			{name: "portLevelMtls", key: "80", value: "{'80': {mode: STRICT}}", beside: "{selector: {matchLabels: {app: web}}}"},
		}},
		"PeerAuthentication.spec.selector": {test: "TestPeerAuthentication", fields: []fieldEntry{
			{name: "matchLabels", value: "{app: web}"},
		}},
		"PeerAuthentication.spec.mtls": {test: "TestPeerAuthentication", fields: []fieldEntry{
			{name: "mode", value: "STRICT", note: modes},
		}},
		"PeerAuthentication.spec.portLevelMtls": {test: "TestPeerAuthentication", fields: []fieldEntry{
			{name: "mode", value: "STRICT", note: modes},
		}},
	}
}
