package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Kubernetes' own kinds as far as a mesh reads them. They are written down here, field by field as API version
// 1.34 has them, and not imported: k8s.io/api would be most of what a program of ours links.

const (
	// exportToAnnotation is a Service's exportTo, a list with commas (istio.io, annotation networking.istio.io/exportTo).
	exportToAnnotation = "networking.istio.io/exportTo"
	// serviceNameLabel ties an EndpointSlice to its Service (k8s.io, discovery.k8s.io/v1 LabelServiceName).
	serviceNameLabel = "kubernetes.io/service-name"
	// localityLabel of a Pod goes before its node's region and zone; its dots are slashes (istio.io, model.LocalityLabel).
	localityLabel = "istio-locality"
	regionLabel   = "topology.kubernetes.io/region"
	headlessIP    = "None"
)

// A kubeService is a core/v1 Service.
type kubeService struct {
	APIVersion opaque          `json:"apiVersion"`
	Kind       opaque          `json:"kind"`
	Metadata   opaque          `json:"metadata"`
	Spec       kubeServiceSpec `json:"spec"`
	Status     opaque          `json:"status"`
}

type kubeServiceSpec struct {
	Type         string            `json:"type"`
	Selector     map[string]string `json:"selector"`
	ClusterIP    string            `json:"clusterIP"`
	ClusterIPs   []string          `json:"clusterIPs"`
	ExternalName string            `json:"externalName"`
	Ports        []kubeServicePort `json:"ports"`

	PublishNotReadyAddresses bool   `json:"publishNotReadyAddresses"`
	SessionAffinity          string `json:"sessionAffinity"`
	InternalTrafficPolicy    string `json:"internalTrafficPolicy"`
	TrafficDistribution      string `json:"trafficDistribution"`

	IPFamilies            []string `json:"ipFamilies"`
	IPFamilyPolicy        string   `json:"ipFamilyPolicy"`
	ExternalTrafficPolicy string   `json:"externalTrafficPolicy"`

	// About traffic that comes in from outside of the cluster, or about kube-proxy alone.
	AllocateLoadBalancerNodePorts bool     `json:"allocateLoadBalancerNodePorts"`
	ExternalIPs                   []string `json:"externalIPs"`
	HealthCheckNodePort           int32    `json:"healthCheckNodePort"`
	LoadBalancerClass             string   `json:"loadBalancerClass"`
	LoadBalancerIP                string   `json:"loadBalancerIP"`
	LoadBalancerSourceRanges      []string `json:"loadBalancerSourceRanges"`
	SessionAffinityConfig         opaque   `json:"sessionAffinityConfig"`
}

type kubeServicePort struct {
	Name        string     `json:"name"`
	Protocol    string     `json:"protocol"`
	AppProtocol string     `json:"appProtocol"`
	Port        int32      `json:"port"`
	TargetPort  portOrName `json:"targetPort"`
	NodePort    int32      `json:"nodePort"`
}

// A kubeSlice is a discovery.k8s.io/v1 EndpointSlice.
type kubeSlice struct {
	APIVersion  opaque          `json:"apiVersion"`
	Kind        opaque          `json:"kind"`
	Metadata    opaque          `json:"metadata"`
	AddressType string          `json:"addressType"`
	Endpoints   []kubeEndpoint  `json:"endpoints"`
	Ports       []kubeSlicePort `json:"ports"`
}

type kubeEndpoint struct {
	Addresses  []string `json:"addresses"`
	Conditions struct {
		Ready       *bool `json:"ready"`
		Serving     *bool `json:"serving"`
		Terminating *bool `json:"terminating"`
	} `json:"conditions"`
	Hostname  string `json:"hostname"`
	TargetRef struct {
		APIVersion      string `json:"apiVersion"`
		Kind            string `json:"kind"`
		Namespace       string `json:"namespace"`
		Name            string `json:"name"`
		UID             string `json:"uid"`
		ResourceVersion string `json:"resourceVersion"`
		FieldPath       string `json:"fieldPath"`
	} `json:"targetRef"`
	NodeName           string            `json:"nodeName"`
	Zone               string            `json:"zone"`
	Hints              opaque            `json:"hints"`
	DeprecatedTopology map[string]string `json:"deprecatedTopology"`
}

type kubeSlicePort struct {
	Name        string `json:"name"`
	Protocol    string `json:"protocol"`
	Port        *int32 `json:"port"`
	AppProtocol string `json:"appProtocol"`
}

// A kubePod is what is read of a core/v1 Pod. The rest of it concerns those who run it.
type kubePod struct {
	Metadata struct {
		DeletionTimestamp opaque `json:"deletionTimestamp"`
		Rest              opaque `json:"*"`
	} `json:"metadata"`
	Spec struct {
		ServiceAccountName string `json:"serviceAccountName"`
		Containers         []struct {
			Ports []struct {
				Name          string `json:"name"`
				ContainerPort int32  `json:"containerPort"`
				Rest          opaque `json:"*"`
			} `json:"ports"`
			Rest opaque `json:"*"`
		} `json:"containers"`
		Rest opaque `json:"*"`
	} `json:"spec"`
	Status struct {
		PodIP      string `json:"podIP"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
			Rest   opaque `json:"*"`
		} `json:"conditions"`
		Rest opaque `json:"*"`
	} `json:"status"`
	Rest opaque `json:"*"`
}

// opaque is a value that nobody here looks at, but for whether there is one. As the field "*" of an object it
// stands for all fields that are not named.
type opaque struct{ there bool }

func (o *opaque) read(n *yaml.Node) complaint {
	o.there = !isNull(n)
	return complaint{}
}

// A portOrName is Kubernetes' IntOrString of a targetPort: the number of a port, or the name that the endpoint has
// for it. The zero value is neither.
type portOrName struct {
	number int32
	name   string
}

func (p *portOrName) read(n *yaml.Node) complaint {
	if isText(n) {
		p.name = n.Value
		return complaint{}
	}
	v, bad := wholeValue(n, protoreflect.Int32Kind)
	if bad != (complaint{}) {
		bad.message = "expected a port's number or name, found " + describe(n)
		return bad
	}
	if p.number = int32(v.Int()); p.number == 0 {
		p.number = math.MinInt32 // a zero that is written is out of range, not absent
	}
	return complaint{}
}

func (p portOrName) given() bool { return p != portOrName{} }

// isExternal reports a Service that is another name for something, and has no endpoints of its own.
func (s *kubeServiceSpec) isExternal() bool { return s.Type == "ExternalName" }

// virtualIPs lists the cluster's addresses of the service: none of a headless one.
func (s *kubeServiceSpec) virtualIPs() []string {
	ips := s.ClusterIPs
	if len(ips) == 0 && s.ClusterIP != "" {
		ips = []string{s.ClusterIP}
	}
	if len(ips) == 1 && ips[0] == headlessIP {
		return nil
	}
	return ips
}

func (s *kubeServiceSpec) isHeadless() bool {
	return s.ClusterIP == headlessIP || len(s.ClusterIPs) > 0 && s.ClusterIPs[0] == headlessIP
}

// carried reports whether the port is one for TCP: Istio leaves all others alone.
func (p *kubeServicePort) carried() bool {
	return (p.Protocol == "" || p.Protocol == "TCP") && !strings.EqualFold(p.declared(), "UDP")
}

// String gives the port as messages call it.
func (p *kubeServicePort) String() string {
	s := strconv.Itoa(int(p.Port))
	if p.Protocol != "" {
		s += "/" + p.Protocol
	}
	if p.Name != "" {
		s = fmt.Sprintf("%s (%s)", p.Name, s)
	}
	return s
}

// declared is the protocol that the port is declared for, as a ServiceEntry's port would have it: appProtocol,
// else the port's name, up to the first dash; else TCP on ports whose servers speak first; "" where Istio
// would look at the bytes (istio.io, pkg/config/kube/conversion.go ConvertProtocol).
func (p *kubeServicePort) declared() string {
	name := p.Name
	if p.AppProtocol != "" {
		name = p.AppProtocol
		switch name {
		case "kubernetes.io/h2c":
			return "HTTP2"
		case "kubernetes.io/ws":
			return "HTTP"
		case "kubernetes.io/wss":
			return "HTTPS"
		}
	}
	const web = "grpc-web"
	if len(name) >= len(web) && strings.EqualFold(name[:len(web)], web) {
		return "GRPC-WEB"
	}
	name, _, _ = strings.Cut(name, "-")
	if isIn(name, protocols...) {
		return strings.ToUpper(name)
	}
	switch p.Port {
	case 25, 53, 3306, 27017:
		return "TCP"
	}
	return ""
}
