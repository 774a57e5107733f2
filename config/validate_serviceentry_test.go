package config

import (
	"fmt"
	"strings"
	"testing"
)

var acceptedServiceEntries = []validateCase{
	{"static", `
  hosts: [reviews.shop.svc.cluster.local]
  addresses: [10.1.0.1, 10.2.0.0/16, "2001:db8::1"]
  location: MESH_INTERNAL
  resolution: STATIC
  exportTo: ["*"]
  ports:
  - {number: 9080, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 65535, name: Admin-1, protocol: grpc-web}
  endpoints:
  - address: 10.0.0.1
    ports: {http: 8081}
    labels: {version: v1}
    locality: eu/eu-1/a
    weight: 50
    serviceAccount: reviews
  - address: "2001:db8::2"
  - network: far`, nil},
	{"by selector", `
  hosts: [reviews]
  resolution: STATIC
  ports: [{number: 80, name: http}]
  workloadSelector: {labels: {app: reviews}}`, nil},
	{"unix socket", `
  hosts: [reviews]
  resolution: STATIC
  ports: [{number: 80, name: http}]
  endpoints: [{address: unix:///run/reviews.sock}]`, nil},
	{"without resolution", `
  hosts: ["*.shop.com"]
  addresses: [10.1.0.0/16]
  ports: [{number: 443, name: tls, protocol: TLS}]`, nil},
}

func TestAcceptedServiceEntries(t *testing.T) {
	t.Parallel()
	runValidate(t, "ServiceEntry", acceptedServiceEntries)
}

func manyHosts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "h%d,", i)
	}
	return "[" + b.String() + "]"
}

const oneHTTPPort = "\n  ports: [{number: 80, name: http}]"

var entryCases = []validateCase{
	{"A-062 no hosts", `
  resolution: NONE` + oneHTTPPort, []string{`IST0106! 4:1 spec.hosts ~ hosts is missing`}},
	{"A-062 hosts", `
  hosts: ["", "*", 10.0.0.1, a, A, "*a.com", a*b]` + oneHTTPPort, []string{
		`IST0106! 5:11 spec.hosts[0] ~ "" is empty`,
		`IST0106! 5:15 spec.hosts[1] ~ "*" is every host and so no service`,
		`IST0106! 5:20 spec.hosts[2] ~ "10.0.0.1" is an IP address`,
		`IST0106! 5:33 spec.hosts[4] ~ "A" repeats hosts[3]`,
		`HDL0009? 5:36 spec.hosts[5] ~ "*a.com" is a wildcard within a label`,
		`IST0106! 5:46 spec.hosts[6] ~ "a*b" has a "*"`,
	}},
	{"A-062 too many hosts", `
  hosts: ` + manyHosts(257) + oneHTTPPort, []string{`IST0106! 5:3 spec.hosts ~ there are 257 hosts; 256 are the most`}},
	{"as many hosts as there may be", `
  hosts: ` + manyHosts(256) + oneHTTPPort, nil},
	{"A-062 ports", `
  hosts: [a]
  ports:
  - {name: a}
  - {number: 65536, name: b}
  - {number: 80}
  - {number: 80, name: c_d}
  - {number: 81, name: b, protocol: htpp}
  - {number: 82, name: e, targetPort: 65536}`, []string{
		`IST0106! 7:5 spec.ports[0].number ~ nothing is no port`,
		`IST0106! 8:14 spec.ports[1].number ~ 65536 is no port`,
		`IST0106! 9:5 spec.ports[2].name ~ the name of a port is missing`,
		`IST0106! 10:14 spec.ports[3].number ~ 80 repeats ports[2]`,
		`IST0106! 10:24 spec.ports[3].name ~ "c_d" is no name of a port`,
		`IST0106! 11:24 spec.ports[4].name ~ "b" repeats ports[1]`,
		`IST0106! 11:37 spec.ports[4].protocol ~ "htpp" is no protocol; did you mean "HTTP"?`,
		`IST0106! 12:39 spec.ports[5].targetPort ~ 65536 is no port`,
	}},
	{"no ports", `
  hosts: [a]`, []string{`HDL0009? 4:1 spec.ports ~ the service has no ports`}},
	{"A-062 addresses", `
  hosts: [a]
  resolution: STATIC
  addresses: [a.com, 10.0.0.0/33, 10.0.0.1, 10.0.0.1/32, 10.1.2.3/16, 10.1.0.0/16, "fe80::1%eth0", "::ffff:10.0.0.1"]
  workloadSelector: {labels: {app: a}}` + oneHTTPPort, []string{
		`IST0106! 7:15 spec.addresses[0] ~ "a.com" is no address`,
		`IST0106! 7:22 spec.addresses[1] ~ "10.0.0.0/33" is no address`,
		`IST0106! 7:45 spec.addresses[3] ~ "10.0.0.1/32" repeats addresses[2]`,
		`IST0106! 7:71 spec.addresses[5] ~ "10.1.0.0/16" repeats addresses[4]`,
		`IST0106! 7:84 spec.addresses[6] ~ is no address`,
		`IST0106! 7:100 spec.addresses[7] ~ repeats addresses[2]`,
	}},
	{"A-062 a range and DNS", `
  hosts: [a.com]
  resolution: DNS
  addresses: [10.0.0.0/8]` + oneHTTPPort, []string{
		`IST0106! 7:15 spec.addresses[0] ~ "10.0.0.0/8" is a range; resolution DNS takes single addresses`,
	}},
	{"A-062 NONE with endpoints", `
  hosts: [a]
  endpoints: [{address: 10.0.0.1}]` + oneHTTPPort, []string{
		`IST0106! 6:3 spec.endpoints ~ resolution NONE has no endpoints`,
	}},
	{"A-062 STATIC without endpoints", `
  hosts: [a]
  resolution: STATIC` + oneHTTPPort, []string{
		`IST0106! 6:15 spec.resolution ~ resolution STATIC has neither endpoints nor workloadSelector`,
	}},
	{"A-062 endpoints", `
  hosts: [a]
  resolution: STATIC
  workloadSelector: {labels: {"a b": c}}
  endpoints:
  - {address: a.com}
  - {address: 10.0.0.1, ports: {htp: 80, http: 0}}
  - {address: unix://run/a.sock}
  - {address: unix:///a, ports: {http: 80}}
  - {address: "10.0.0.1:80"}
  - {labels: {version: "*"}}
  - {address: 10.0.0.2, locality: a/b/c/d}
  - {address: "fe80::1%eth0", locality: a//b}` + oneHTTPPort, []string{
		`IST0106! 7:3 spec.workloadSelector ~ endpoints and workloadSelector exclude each other`,
		`IST0106! 7:31 spec.workloadSelector.labels["a b"] ~ is no key of a label`,
		`IST0106! 9:15 spec.endpoints[0].address ~ "a.com" is no IP address`,
		`IST0106! 10:33 spec.endpoints[1].ports.htp ~ "htp" is no port of the service; did you mean "http"?`,
		`IST0106! 10:48 spec.endpoints[1].ports.http ~ 0 is no port`,
		`IST0106! 11:15 spec.endpoints[2].address ~ "unix://run/a.sock" is no absolute path of a socket`,
		`IST0106! 12:26 spec.endpoints[3].ports ~ a unix socket has no ports`,
		`IST0106! 13:15 spec.endpoints[4].address ~ "10.0.0.1:80" names a port; write the port in ports`,
		`IST0106! 14:5 spec.endpoints[5].address ~ address is missing`,
		`IST0106! 14:24 spec.endpoints[5].labels.version ~ "*" is no value of a label`,
		`IST0106! 15:35 spec.endpoints[6].locality ~ "a/b/c/d" has more than three parts`,
		`IST0106! 16:15 spec.endpoints[7].address ~ has a zone`,
		`IST0106! 16:41 spec.endpoints[7].locality ~ "a//b" is no locality`,
	}},
	{"A-062 a unix socket and two ports", `
  hosts: [a]
  resolution: STATIC
  ports: [{number: 80, name: http}, {number: 81, name: admin}]
  endpoints: [{address: unix:///a}]`, []string{
		`IST0106! 8:25 spec.endpoints[0].address ~ "unix:///a" is a unix socket, and the service has 2 ports`,
	}},
	{"DNS", `
  hosts: [a.com]
  resolution: DNS
  endpoints: [{address: b.com}, {address: 10.0.0.1}, {address: unix:///a}, {address: "*.b.com"}, {address: b_c}]` + oneHTTPPort, []string{
		`IST0106! 7:64 spec.endpoints[2].address ~ "unix:///a" cannot be resolved`,
		`IST0106! 7:86 spec.endpoints[3].address ~ "*.b.com" is no address`,
		`IST0106! 7:108 spec.endpoints[4].address ~ "b_c" has the label`,
	}},
	{"DNS of a wildcard", `
  hosts: ["*.a.com"]
  resolution: DNS` + oneHTTPPort, []string{
		`IST0106! 5:11 spec.hosts[0] ~ "*.a.com" cannot be resolved`,
	}},
	{"DNS_ROUND_ROBIN", `
  hosts: [a.com]
  resolution: DNS_ROUND_ROBIN
  endpoints: [{address: b.com}, {address: c.com}]` + oneHTTPPort, []string{
		`HDL0008? 6:15 spec.resolution ~ the name is looked up whenever a connection is opened`,
		`IST0106! 7:3 spec.endpoints ~ resolution DNS_ROUND_ROBIN has 2 endpoints`,
	}},
	{"DYNAMIC_DNS", `
  hosts: ["*.a.com"]
  resolution: DYNAMIC_DNS
  subjectAltNames: [a]` + oneHTTPPort, []string{
		`HDL0008! 6:15 spec.resolution ~ resolution is not built`,
	}},
}

func TestValidateServiceEntries(t *testing.T) {
	t.Parallel()
	runValidate(t, "ServiceEntry", entryCases)
}

var workloadCases = []validateCase{
	{"address", "  address: 10.0.0.1\n  ports: {http: 8080}\n  labels: {app: a}\n  locality: eu\n  weight: 3", nil},
	{"name", "  address: vm-1.shop.internal", nil},
	{"socket", "  address: unix:///run/a.sock", nil},
	{"network alone", "  network: far", nil},
	{"nothing", "  labels: {app: a}", []string{`IST0106! 4:1 spec.address ~ address is missing`}},
	{"wildcard", `  address: "*.a.com"`, []string{`IST0106! 5:12 spec.address ~ "*.a.com" is no address`}},
	{"the rest", "  address: a b\n  ports: {a_b: 65536}\n  labels: {a b: c}\n  locality: /a\n", []string{
		`IST0106! 5:12 spec.address ~ "a b" has the label "a b"; write an IP address`,
		`IST0106! 6:11 spec.ports.a_b ~ "a_b" is no name of a port`,
		`IST0106! 6:16 spec.ports.a_b ~ 65536 is no port`,
		`IST0106! 7:12 spec.labels["a b"] ~ "a b" is no key of a label`,
		`IST0106! 8:13 spec.locality ~ "/a" is no locality`,
	}},
}

func TestValidateWorkloadEntries(t *testing.T) {
	t.Parallel()
	runValidate(t, "WorkloadEntry", workloadCases)
}
