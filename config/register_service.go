package config

const oneService = "{hosts: [reviews.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}"

// serviceFields is what becomes of each field of a ServiceEntry and a WorkloadEntry.
func serviceFields() register {
	return register{
		"ServiceEntry": {needs: oneService, fields: []fieldEntry{
			{name: "hosts", value: "[reviews.example.com]"},
			{name: "addresses", value: "[192.0.2.1]"},
			{name: "ports"},
			{name: "location", test: "TestCompilesMutualTLS", value: "MESH_INTERNAL"},
			{name: "resolution", value: "DNS"},
			{name: "resolution=NONE"},
			{name: "resolution=STATIC", beside: "{hosts: [reviews.example.com], endpoints: [{address: 192.0.2.1}], ports: [{number: 80, name: http, protocol: HTTP}]}"},
			{name: "resolution=DNS_ROUND_ROBIN", outcome: Warned},
			{name: "resolution=DYNAMIC_DNS", outcome: Refused},
			{name: "endpoints"},
			{name: "workloadSelector"},
			{name: "exportTo", value: `["*"]`},
			{name: "subjectAltNames", test: "TestServiceNamesOfCertificates"},
		}},
		"ServicePort": {needs: "{number: 80, name: http}", fields: []fieldEntry{
			{name: "number", value: "80"},
			{name: "protocol", value: "HTTP"},
			{name: "name", value: "http"},
			{name: "targetPort", value: "8080"},
		}},
		"WorkloadEntry": {needs: "{address: 192.0.2.1}", fields: []fieldEntry{
			{name: "address", value: "192.0.2.1"},
			{name: "ports", value: "{http: 8080}"},
			{name: "labels"},
			{name: "network", outcome: Idle, note: "calls go to the address itself, as in Istio where a network has no gateway; failoverPriority can compare it"},
			{name: "locality", test: "TestMeshLocality", value: "eu/a"},
			{name: "weight"},
			{name: "serviceAccount", test: "TestCompilesMutualTLS"},
		}},
		"WorkloadSelector": {needs: "{labels: {app: reviews}}", fields: []fieldEntry{
			{name: "labels"},
		}},
	}
}
