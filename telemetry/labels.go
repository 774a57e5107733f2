package telemetry

import (
	"cmp"
	"strings"
)

// Unknown stands for what is not known: no label is ever left out (Istio, standard metrics).
const Unknown = "unknown"

// Other stands for everything beyond the bound of a store.
const Other = "other"

// A Reporter is the side that has measured.
type Reporter uint8

const (
	Source      Reporter = iota // the caller's
	Destination                 // the callee's
)

func (r Reporter) String() string {
	if r == Destination {
		return "destination"
	}
	return "source"
}

// The values of connection_security_policy. The source's side leaves it unknown (istio_stats).
const (
	MutualTLS = "mutual_tls"
	PlainText = "none"
)

// A Workload is one side of a request as labels name it. What is "" is unknown, an empty CanonicalRevision "latest".
type Workload struct {
	Name, Namespace  string
	Principal        string // spiffe://…, proved by a certificate
	App, Version     string
	Cluster          string
	CanonicalService string
	CanonicalRev     string
}

// The labels of a workload by which others know it (istio.io, well known labels).
const (
	labelName        = "service.istio.io/workload-name"
	labelApp         = "app"
	labelVersion     = "version"
	labelCanonical   = "service.istio.io/canonical-name"
	labelCanonicalRv = "service.istio.io/canonical-revision"
	labelAppName     = "app.kubernetes.io/name"
	labelAppVersion  = "app.kubernetes.io/version"
	labelTemplate    = "pod-template-hash"
	labelCluster     = "topology.istio.io/cluster"
)

// WorkloadOf makes a workload of its labels, as istiod and pilot-agent do. name is that of the object it runs in, "" where
// there is none: of a Pod whose labels tell the hash of a ReplicaSet the workload is what stands before that.
func WorkloadOf(name, namespace string, labels map[string]string) Workload {
	if hash := labels[labelTemplate]; hash != "" {
		if i := strings.LastIndex(name, "-"+hash); i > 0 {
			name = name[:i]
		}
	}
	name = cmp.Or(labels[labelName], name)
	return Workload{
		Name: name, Namespace: namespace, App: labels[labelApp], Version: labels[labelVersion], Cluster: labels[labelCluster],
		CanonicalService: cmp.Or(labels[labelCanonical], labels[labelAppName], labels[labelApp], name),
		CanonicalRev:     cmp.Or(labels[labelCanonicalRv], labels[labelAppVersion], labels[labelVersion]),
	}
}

// Or gives the workload with what o knows of it in the place of what is unknown. Its labels go together: of an o that has another name
// or app nothing is taken but namespace and principal.
func (w Workload) Or(o Workload) Workload {
	w.Namespace, w.Principal = cmp.Or(w.Namespace, o.Namespace), cmp.Or(w.Principal, o.Principal)
	if w.Name != "" && o.Name != "" && w.Name != o.Name || w.App != "" && o.App != "" && w.App != o.App {
		return w
	}
	w.Name, w.App, w.Version, w.Cluster = cmp.Or(w.Name, o.Name), cmp.Or(w.App, o.App), cmp.Or(w.Version, o.Version), cmp.Or(w.Cluster, o.Cluster)
	w.CanonicalService, w.CanonicalRev = cmp.Or(w.CanonicalService, o.CanonicalService), cmp.Or(w.CanonicalRev, o.CanonicalRev)
	return w
}

// A Service is what a request was for. What is "" is unknown.
type Service struct {
	Host      string // reviews.default.svc.cluster.local
	Name      string // reviews, or PassthroughCluster and BlackHoleCluster
	Namespace string
}

// ServiceOf makes a service of its host. Of a Kubernetes name the first words are name and namespace; any other name
// stands whole, in the namespace of whoever declares it.
func ServiceOf(host, namespace string) Service {
	s := Service{Host: host, Name: host, Namespace: namespace}
	if name, rest, ok := strings.Cut(host, "."); ok {
		if ns, domain, ok := strings.Cut(rest, "."); ok && strings.HasPrefix(domain+".", "svc.") {
			s.Name, s.Namespace = name, ns
		}
	}
	return s
}

// Labels are all labels of a request's metrics but those of its outcome. They are comparable, and must hold nothing that a
// caller can choose freely.
type Labels struct {
	Reporter            Reporter
	Source, Destination Workload
	Service             Service
	Security            string // MutualTLS or PlainText where the reporter is the destination
}

// A Label is a name and its value.
type Label struct{ Name, Value string }

// list gives the labels in Istio's order, with those of the outcome.
func (l *Labels) list(o Outcome) []Label {
	s, d := &l.Source, &l.Destination
	code, flags, protocol, status := o.labels()
	list := []Label{
		{"reporter", l.Reporter.String()},
		{"source_workload", s.Name},
		{"source_canonical_service", s.CanonicalService},
		{"source_canonical_revision", cmp.Or(s.CanonicalRev, "latest")},
		{"source_workload_namespace", s.Namespace},
		{"source_principal", s.Principal},
		{"source_app", s.App},
		{"source_version", s.Version},
		{"source_cluster", s.Cluster},
		{"destination_workload", d.Name},
		{"destination_workload_namespace", d.Namespace},
		{"destination_principal", d.Principal},
		{"destination_app", d.App},
		{"destination_version", d.Version},
		{"destination_service", l.Service.Host},
		{"destination_canonical_service", d.CanonicalService},
		{"destination_canonical_revision", cmp.Or(d.CanonicalRev, "latest")},
		{"destination_service_name", l.Service.Name},
		{"destination_service_namespace", l.Service.Namespace},
		{"destination_cluster", d.Cluster},
		{"request_protocol", protocol},
		{"response_code", code},
		{"grpc_response_status", status},
		{"response_flags", flags},
		{"connection_security_policy", l.Security},
	}
	kept := list[:0]
	for _, label := range list {
		if label.Name == "grpc_response_status" && label.Value == "" {
			continue // of RPCs only
		}
		if label.Value == "" {
			label.Value = Unknown
		}
		kept = append(kept, label)
	}
	return kept
}

// LabelNames lists the labels of Istio's standard metrics of requests.
func LabelNames() []string {
	all := new(Labels).list(Outcome{GRPC: 1})
	names := make([]string, len(all))
	for i, l := range all {
		names[i] = l.Name
	}
	return names
}

// everythingElse are the labels of requests beyond a store's bound.
func everythingElse(r Reporter) Labels {
	w := Workload{Other, Other, Other, Other, Other, Other, Other, Other}
	return Labels{Reporter: r, Source: w, Destination: w, Service: Service{Other, Other, Other}, Security: Other}
}
