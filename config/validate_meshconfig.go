package config

import (
	"fmt"
	"regexp"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	meshapi "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
)

// A meshOutcome is what this version does with a field of MeshConfig.
type meshOutcome uint8

const (
	meshHonoured  meshOutcome = iota + 1
	meshElsewhere             // settings of Istio's proxies and control plane, which are not here: nothing is missing
	meshMissing               // only adds behaviour, not built
	meshRefused               // takes something away, or changes where or in what form requests go; not built
)

// meshFields is what becomes of each field: TestEveryMeshConfigFieldHasAnOutcome fails for one that is not here.
var meshFields = map[protoreflect.Name]meshOutcome{
	"connect_timeout":                    meshHonoured,
	"default_destination_rule_export_to": meshHonoured,
	"default_http_retry_policy":          meshHonoured,
	"extension_providers":                meshHonoured, // those that are asked about requests, that take spans, and files of access logs
	"default_service_export_to":          meshHonoured,
	"default_virtual_service_export_to":  meshHonoured,
	"outbound_traffic_policy":            meshHonoured, // but for tls
	"path_normalization":                 meshHonoured,
	"root_namespace":                     meshHonoured,
	"trust_domain":                       meshHonoured, // kept: a program's trust domain is that of its SVID
	"enable_auto_mtls":                   meshHonoured,
	"locality_lb_setting":                meshHonoured,
	"trust_domain_aliases":               meshHonoured,

	"ca":                              meshElsewhere,
	"certificates":                    meshElsewhere,
	"config_sources":                  meshElsewhere,
	"default_config":                  meshElsewhere, // but for gatewayTopology.numTrustedProxies and tracing
	"default_providers":               meshHonoured,  // of access logs and spans; metrics are Prometheus's
	"disable_envoy_listener_log":      meshElsewhere,
	"enable_prometheus_merge":         meshElsewhere,
	"hbone_idle_timeout":              meshElsewhere,
	"inbound_cluster_stat_name":       meshElsewhere,
	"ingress_class":                   meshElsewhere,
	"ingress_controller_mode":         meshElsewhere,
	"ingress_selector":                meshElsewhere,
	"ingress_service":                 meshElsewhere,
	"outbound_cluster_stat_name":      meshElsewhere,
	"protocol_detection_timeout":      meshElsewhere,
	"proxy_http_port":                 meshElsewhere,
	"proxy_inbound_listen_port":       meshElsewhere,
	"proxy_listen_port":               meshElsewhere,
	"service_scope_configs":           meshElsewhere, // one cluster is all there is
	"service_settings":                meshElsewhere, // as above
	"verify_certificate_at_client":    meshElsewhere,
	"dns_refresh_rate":                meshElsewhere, // the time after a failure; DNS has its own here
	"access_log_encoding":             meshHonoured,
	"access_log_file":                 meshHonoured,
	"access_log_format":               meshHonoured,
	"ca_certificates":                 meshMissing,
	"default_traffic_policy":          meshMissing,
	"enable_envoy_access_log_service": meshMissing,
	"enable_tracing":                  meshHonoured,
	"h2_upgrade_policy":               meshHonoured,
	"mesh_mTLS":                       meshHonoured, // its least version
	"inbound_traffic_policy":          meshMissing,
	"tcp_keepalive":                   meshHonoured,
	"tls_defaults":                    meshMissing, // of TLS that is not the mesh's; suites and curves are Go's
	"zone_aware_lb_setting":           meshMissing, // but for failover, as in a DestinationRule

	"discovery_selectors":      meshRefused,
	"service_entry_visibility": meshRefused,
}

// meshWarnings says what is done in the place of a field, where that does not go without saying.
var meshWarnings = map[protoreflect.Name]string{
	"ca_certificates": "authorities come with the program's identity, its own bundle and those of trust domains that it is federated with",
	"tls_defaults":    "TLS that is not the mesh's is 1.2 at least, with Go's suites and curves",
}

// meshRefusals says what would go wrong without the field.
var meshRefusals = map[protoreflect.Name]string{
	"discovery_selectors":      "services and rules of namespaces that it leaves out would count",
	"service_entry_visibility": "services would be seen by those that it hides them from",
}

// mostProxies is more than any request goes through.
const mostProxies = 1000

var trustDomain = regexp.MustCompile(`^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$`)

// meshConfig checks the mesh's own settings.
func (v *validation) meshConfig(p fieldPath, m *meshapi.MeshConfig) {
	if v.d.inConfigMap() {
		v.configMap()
	}
	m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		at := p.at(fd.JSONName())
		if !saysSomething(fd, value) {
			return true
		}
		switch meshFields[fd.Name()] {
		case meshElsewhere:
			if fd.Name() == "default_config" && onlyTopology(m) {
				return true
			}
			v.inform(at, codeNotServed, fd.JSONName()+" is for Istio's own proxies and control plane: not read", "")
		case meshMissing:
			what := fd.JSONName()
			if why := meshWarnings[fd.Name()]; why != "" {
				what = why
			}
			v.unenforced(at, what)
		case meshRefused:
			v.unbuilt(at, meshRefusals[fd.Name()])
		}
		return true
	})
	v.duration(p.at("connectTimeout"), m.GetConnectTimeout())
	if t := m.GetDefaultConfig().GetTracing(); t != nil {
		v.proxyTracing(p.at("defaultConfig", "tracing"), t)
	}
	v.meshLog(p, m)
	v.extensionProviders(p.at("extensionProviders"), m.GetExtensionProviders())
	for _, f := range []struct {
		name string
		list []string
	}{
		{"defaultServiceExportTo", m.GetDefaultServiceExportTo()},
		{"defaultVirtualServiceExportTo", m.GetDefaultVirtualServiceExportTo()},
		{"defaultDestinationRuleExportTo", m.GetDefaultDestinationRuleExportTo()},
	} {
		at := p.at(f.name)
		exportToProblems(f.list, ".", func(i int, problem, hint string) { v.refuseValue(at.at(i), problem, hint) })
	}
	if m.GetRootNamespace() != "" {
		v.namespace(p.at("rootNamespace"), m.GetRootNamespace())
	}
	if t := m.GetTrustDomain(); t != "" && (len(t) > longestName || !trustDomain.MatchString(t)) {
		v.refuseValue(p.at("trustDomain"), "is no trust domain", "write lower case letters, digits, '.', '-' and '_'")
	}
	for i, alias := range m.GetTrustDomainAliases() {
		if len(alias) > longestName || !trustDomain.MatchString(alias) {
			v.refuseValue(p.at("trustDomainAliases", i), "is no trust domain", "write lower case letters, digits, '.', '-' and '_'")
		}
	}
	v.meshRetries(p.at("defaultHttpRetryPolicy"), m.GetDefaultHttpRetryPolicy())
	v.meshTLS(p.at("meshMTLS"), m.GetMeshMTLS())
	v.meshOutbound(p.at("outboundTrafficPolicy"), m.GetOutboundTrafficPolicy())
	if t := m.GetDefaultConfig().GetGatewayTopology(); t.GetNumTrustedProxies() > mostProxies {
		v.refuseValue(p.at("defaultConfig", "gatewayTopology", "numTrustedProxies"), "is more than there can be", "write how many proxies stand before the gateway")
	}
	if l := m.GetLocalityLbSetting(); l != nil {
		v.localities(p.at("localityLbSetting"), l)
	}
	if zone := m.GetZoneAwareLbSetting(); len(zone.GetFailover())+len(zone.GetFailoverPriority()) > 0 {
		v.unbuilt(p.at("zoneAwareLbSetting"), elsewhere)
	}
}

// onlyTopology reports a defaultConfig that says nothing but what is read of it.
func onlyTopology(m *meshapi.MeshConfig) bool {
	rest := proto.CloneOf(m.GetDefaultConfig())
	rest.Tracing = nil
	if rest.GetGatewayTopology() != nil {
		rest.GatewayTopology.NumTrustedProxies = 0
		if proto.Size(rest.GatewayTopology) == 0 {
			rest.GatewayTopology = nil
		}
	}
	return proto.Size(rest) == 0
}

// meshTLS checks what is said of mutual TLS of the mesh.
func (v *validation) meshTLS(p fieldPath, t *meshapi.MeshConfig_TLSConfig) {
	const why = "without effect: %s are Go's own, all with forward secrecy and authenticated encryption"
	if len(t.GetCipherSuites()) > 0 {
		v.warn(p.at("cipherSuites"), codeUnbuilt, fmt.Sprintf(why, "cipher suites"), "")
	}
	if len(t.GetEcdhCurves()) > 0 {
		v.warn(p.at("ecdhCurves"), codeUnbuilt, fmt.Sprintf(why, "curves"), "")
	}
}

// saysSomething reports a field that is not its default written out.
func saysSomething(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
	if fd.Kind() != protoreflect.MessageKind || fd.IsList() || fd.IsMap() {
		return true
	}
	inner := value.Message()
	if fd.Message().FullName() == "google.protobuf.BoolValue" {
		return inner.Get(fd.Message().Fields().ByName("value")).Bool()
	}
	return fd.Message().ParentFile().Package() == "google.protobuf" || len(setFields(inner.Interface())) > 0
}

// meshRetries is retries for a policy of no rule.
func (v *validation) meshRetries(p fieldPath, r *networking.HTTPRetry) {
	if r.GetPerTryTimeout() != nil {
		v.doubt(p.at("perTryTimeout"), "perTryTimeout limits nothing here, in Istio neither", "write it in the rules that need it")
		r = proto.CloneOf(r)
		r.PerTryTimeout = nil
	}
	v.retries(p, &networking.HTTPRoute{Retries: r})
}

func (v *validation) meshOutbound(p fieldPath, o *meshapi.MeshConfig_OutboundTrafficPolicy) {
	if o == nil {
		return
	}
	if _, _, written := v.d.find(p.at("mode")); !written {
		v.warn(p, codeRegistryOnly, "outboundTrafficPolicy without a mode is REGISTRY_ONLY: calls to hosts that no document names are rejected",
			"write mode: REGISTRY_ONLY, or ALLOW_ANY")
	}
	if o.GetTls().GetMode() != networking.ClientTLSSettings_DISABLE {
		v.unbuilt(p.at("tls"), "connections would be in plain text")
	}
}

// configMap looks at what else istiod's ConfigMap holds.
func (v *validation) configMap() {
	_, data, _ := v.d.find([]any{"data"})
	data = target(data)
	for i := 0; i+1 < len(data.Content); i += 2 {
		at, key := fieldPath{"data", data.Content[i].Value}, data.Content[i].Value
		switch key {
		case meshConfigKey:
		case meshNetworksKey:
			if !emptyNetworks(data.Content[i+1]) {
				v.warn(at, codeNotServed, "meshNetworks has no effect in this version: endpoints of other networks are called directly", "")
			}
		default:
			v.inform(at, codeSkipped, fmt.Sprintf("%s skipped: only %s is read", quoted(key), meshConfigKey), "")
		}
	}
}

// emptyNetworks reports the text that an installation writes where there is one network.
func emptyNetworks(n *yaml.Node) bool {
	n = target(n)
	if !isText(n) || tooDense([]byte(n.Value)) {
		return false
	}
	root, bad := parseYAML([]byte(n.Value))
	if bad != nil {
		return false
	}
	if root == nil {
		return true
	}
	_, networks := entry(root, "networks")
	return root.Kind == yaml.MappingNode && (len(root.Content) == 0 || len(root.Content) == 2 && networks != nil &&
		(isNull(networks) || networks.Kind == yaml.MappingNode && len(networks.Content) == 0))
}
