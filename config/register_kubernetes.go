package config

const (
	clusterEdge = "about traffic that comes in from outside of the cluster, or about kube-proxy alone"
	notUsed     = "accepted, not used"
)

// kubernetesFields is what becomes of each field of Kubernetes' own kinds.
func kubernetesFields() register {
	return register{
		"Service": {needs: "{spec: {ports: [{port: 80, name: http}]}}", fields: []fieldEntry{
			{name: "metadata", value: "{name: reviews, annotations: {networking.istio.io/exportTo: '*'}}", note: "name, namespace, labels, and the annotation networking.istio.io/exportTo"},
			{name: "spec"},
			{name: "status", outcome: Idle, value: "{loadBalancer: {}}", note: "what the cluster has made of it"},
		}},
		"Service.spec": {needs: "{ports: [{port: 80, name: http}]}", fields: []fieldEntry{
			{name: "type", value: "ClusterIP", note: "ExternalName is another name for a service; the others have endpoints"},
			{name: "selector"},
			{name: "clusterIP", value: "10.0.0.9"},
			{name: "clusterIPs", value: "[10.0.0.9]"},
			{name: "externalName", value: "a.example.com", beside: "{type: ExternalName}"},
			{name: "ports", value: "[{port: 80, name: http}]"},
			{name: "publishNotReadyAddresses"},
			{name: "sessionAffinity", outcome: Warned, value: "ClientIP"},
			{name: "internalTrafficPolicy", outcome: Refused, value: "Local"},
			{name: "trafficDistribution", outcome: Warned, value: "PreferClose"},
			{name: "ipFamilies", outcome: Idle, value: "[IPv4]", note: "addresses of both kinds are used as they stand"},
			{name: "ipFamilyPolicy", outcome: Idle, value: "SingleStack", note: "as ipFamilies"},
			{name: "externalTrafficPolicy", outcome: Idle, value: "Local", note: clusterEdge},
			{name: "allocateLoadBalancerNodePorts", outcome: Idle, note: clusterEdge},
			{name: "externalIPs", outcome: Idle, value: "[192.0.2.9]", note: clusterEdge},
			{name: "healthCheckNodePort", outcome: Idle, note: clusterEdge},
			{name: "loadBalancerClass", outcome: Idle, note: clusterEdge},
			{name: "loadBalancerIP", outcome: Idle, note: clusterEdge},
			{name: "loadBalancerSourceRanges", outcome: Idle, value: "[192.0.2.0/24]", note: clusterEdge},
			{name: "sessionAffinityConfig", outcome: Idle, note: "belongs to sessionAffinity"},
		}},
		"Service.spec.ports": {needs: "{port: 80, name: http}", fields: []fieldEntry{
			{name: "name", value: "http"},
			{name: "protocol", value: "TCP", note: "TCP; ports of UDP and SCTP are skipped with a line of information"},
			{name: "appProtocol", value: "http"},
			{name: "port", value: "80"},
			{name: "targetPort"},
			{name: "nodePort", outcome: Idle, value: "30000", note: clusterEdge},
		}},
		"EndpointSlice": {needs: "{metadata: {name: reviews-1, labels: {kubernetes.io/service-name: reviews}}, addressType: IPv4, ports: [{name: http, port: 80}], endpoints: [{addresses: [192.0.2.1]}]}", fields: []fieldEntry{
			{name: "metadata", value: "{name: reviews-1, labels: {kubernetes.io/service-name: reviews}}", note: "name, namespace, and the label kubernetes.io/service-name"},
			{name: "addressType", value: "IPv4"},
			{name: "endpoints"},
			{name: "ports"},
		}},
		"EndpointSlice.endpoints": {needs: "{addresses: [192.0.2.1]}", test: "TestKubernetesEndpoints", fields: []fieldEntry{
			{name: "addresses", value: "[192.0.2.1]"},
			{name: "conditions"},
			{name: "hostname", outcome: Idle, note: notUsed},
			{name: "targetRef"},
			{name: "nodeName", outcome: Idle, note: notUsed},
			{name: "zone"},
			{name: "hints", outcome: Idle, note: "kube-proxy's; localities say here what is near"},
			{name: "deprecatedTopology", value: "{topology.kubernetes.io/region: eu}", note: "the region"},
		}},
		"EndpointSlice.endpoints.conditions": {fields: []fieldEntry{
			{name: "ready"},
			{name: "serving", outcome: Idle, note: "ready decides, as in Istio"},
			{name: "terminating", outcome: Idle, beside: "{ready: false}", note: "ready decides, as in Istio"},
		}},
		"EndpointSlice.endpoints.targetRef": {needs: "{kind: Pod, name: reviews-v1}", fields: []fieldEntry{
			{name: "apiVersion", outcome: Idle, value: "v1", note: notUsed},
			{name: "kind", value: "Pod"},
			{name: "namespace", outcome: Idle, note: "a slice's endpoints are of its own namespace"},
			{name: "name"},
			{name: "uid", outcome: Idle, note: notUsed},
			{name: "resourceVersion", outcome: Idle, note: notUsed},
			{name: "fieldPath", outcome: Idle, note: notUsed},
		}},
		"EndpointSlice.ports": {needs: "{name: http, port: 80}", fields: []fieldEntry{
			{name: "name", value: "http"},
			{name: "protocol", outcome: Idle, value: "TCP", note: "that of the Service's port of the same name counts"},
			{name: "port", value: "80"},
			{name: "appProtocol", outcome: Idle, note: "that of the Service's port of the same name counts"},
		}},
		"Pod": {needs: "{metadata: {name: reviews-v1}, status: {podIP: 192.0.2.1}}", test: "TestKubernetesEndpoints", fields: []fieldEntry{
			{name: "metadata", note: "name, namespace and labels"},
			{name: "spec"},
			{name: "status"},
			{name: "*", outcome: Idle, note: "concerns those who run the Pod"},
		}},
		"Pod.metadata": {needs: "{name: reviews-v1}", test: "TestKubernetesEndpoints", fields: []fieldEntry{
			{name: "deletionTimestamp", value: "2026-01-01T00:00:00Z"},
			{name: "*", outcome: Idle, value: "{a: b}", note: "concerns those who run the Pod"},
		}},
		"Pod.spec": {test: "TestKubernetesEndpoints", fields: []fieldEntry{
			{name: "serviceAccountName"},
			{name: "containers"},
			{name: "*", outcome: Idle, note: "concerns those who run the Pod"},
		}},
		"Pod.spec.containers": {test: "TestKubernetesEndpoints", fields: []fieldEntry{
			{name: "ports"},
			{name: "*", outcome: Idle, note: "concerns those who run the Pod"},
		}},
		"Pod.spec.containers.ports": {needs: "{name: http, containerPort: 80}", test: "TestKubernetesEndpoints", fields: []fieldEntry{
			{name: "name", value: "http"},
			{name: "containerPort", value: "80"},
			{name: "*", outcome: Idle, note: "concerns those who run the Pod"},
		}},
		"Pod.status": {fields: []fieldEntry{
			{name: "podIP", value: "192.0.2.1"},
			{name: "conditions"},
			{name: "*", outcome: Idle, note: "concerns those who run the Pod"},
		}},
		"Pod.status.conditions": {needs: "{type: Ready, status: 'True'}", fields: []fieldEntry{
			{name: "type", value: "Ready"},
			{name: "status", value: "'True'"},
			{name: "*", outcome: Idle, note: "concerns those who run the Pod"},
		}},
	}
}
