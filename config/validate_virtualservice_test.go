package config

import (
	"strings"
	"testing"
)

var acceptedVirtualServices = []validateCase{
	{"bookinfo v1", `
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v1}`, nil},
	{"bookinfo jason", `
  hosts:
  - reviews
  http:
  - match:
    - headers:
        end-user:
          exact: jason
    route:
    - destination:
        host: reviews
        subset: v2
  - route:
    - destination:
        host: reviews
        subset: v3`, nil},
	{"bookinfo canary", `
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v1}
      weight: 50
    - destination: {host: reviews, subset: v3}
      weight: 50`, nil},
	{"bookinfo gateway", `
  hosts: ["*"]
  gateways: [bookinfo-gateway]
  http:
  - match:
    - uri: {exact: /productpage}
    - uri: {prefix: /static}
    - uri: {exact: /login}
    - uri: {prefix: /api/v1/products}
    route:
    - destination:
        host: productpage
        port: {number: 9080}`, nil},
	{"everything that is honoured", `
  hosts: [reviews.shop.svc.cluster.local, "*.reviews.com", Ratings, "*-eu.shop.com"]
  gateways: [mesh, shop/edge, ./edge, edge]
  exportTo: [., prod]
  http:
  - name: vip
    match:
    - name: m
      uri: {regex: "/v[0-9]+/.*"}
      scheme: {exact: https}
      method: {regex: GET|POST}
      authority: {prefix: reviews}
      headers: {x-vip: {}, x-any: {regex: "*"}, X-Tenant: {exact: ""}}
      withoutHeaders: {x-block: {}, x-bad: {regex: "*"}}
      queryParams: {v: {exact: "1"}, any: {regex: "*"}, "a b": {}}
      port: 9080
      sourceLabels: {app: web, istio.io/rev: "", a/b: c_d.e}
      sourceNamespace: shop
      gateways: [mesh]
      ignoreUriCase: true
    - port: 65535
    retries:
      attempts: 3
      retryOn: 5xx,reset,503,unavailable
      backoff: 1ms
      retryIgnorePreviousHosts: false
    timeout: 0s
    route:
    - destination: {host: reviews, subset: V1-a, port: {number: 65535}}
      weight: 100
    - destination: {host: "*.reviews.com"}
      weight: 0
    headers: {request: {}}
    fault: {}
  - retries: {attempts: 0}
    route:
    - destination: {host: reviews}
      weight: 7`, nil},
	{"a host by two of its names", `
  hosts: [reviews, reviews.shop.svc.cluster.local]
  http: [{route: [{destination: {host: reviews}}]}]`, nil},
	{"an address at a gateway", `
  hosts: [10.0.0.1]
  gateways: [edge]
  http: [{route: [{destination: {host: reviews}}]}]`, nil},
}

func TestAcceptedVirtualServices(t *testing.T) {
	t.Parallel()
	runValidate(t, "VirtualService", acceptedVirtualServices)
}

var hostCases = []validateCase{
	{"no hosts", `
  gateways: [mesh]
  http: [{route: [{destination: {host: a}}]}]`, []string{
		"IST0106! 4:1 spec.hosts ~ hosts is missing",
	}},
	{"delegate by its shape", `
  http: [{route: [{destination: {host: a}}]}]`, nil},
	{"A-023 delegate with gateways", `
  gateways: [edge]
  http: [{route: [{destination: {host: a}}]}]`, []string{
		"IST0106! 4:1 spec.hosts ~ hosts is missing; name at least one host; a delegate, which has none, has nothing but http and exportTo",
	}},
	{"A-023 delegate of a delegate", `
  http:
  - delegate: {name: next}
  - delegate: {name: reviews, namespace: shop}`, []string{
		"IST0106! 6:5 spec.http[0].delegate ~ a delegate hands over no further: shop/reviews → shop/next",
		"IST0106! 7:5 spec.http[1].delegate ~ a delegate hands over no further: shop/reviews → shop/reviews",
	}},
	{"A-022 same host twice", `
  hosts: [reviews, ratings, Reviews]
  http: [{route: [{destination: {host: a}}]}]`, []string{
		`IST0106! 5:29 spec.hosts[2] ~ "Reviews" repeats hosts[0]`,
	}},
	{"A-022 with and without the last dot", `
  hosts:
  - reviews.shop.
  - reviews.shop
  http: [{route: [{destination: {host: a}}]}]`, []string{
		`IST0106! 7:5 spec.hosts[1] ~ repeats hosts[0]`,
	}},
	{"A-022 under its own wildcard", `
  hosts: [a.shop.com, "*.b.shop.com", "*.shop.com", shop.com]
  http: [{route: [{destination: {host: a}}]}]`, []string{
		`IST0106! 5:11 spec.hosts[0] ~ "a.shop.com" is covered by hosts[2], "*.shop.com"`,
		`IST0106! 5:23 spec.hosts[1] ~ "*.b.shop.com" is covered by hosts[2], "*.shop.com"`,
	}},
	{"A-022 under every host of a gateway", `
  hosts: ["*", shop.com]
  gateways: [edge]
  http: [{route: [{destination: {host: a}}]}]`, []string{
		`IST0106! 5:16 spec.hosts[1] ~ is covered by hosts[0], "*"`,
	}},
	{"A-024", `
  hosts: ["*.*", a*b, "*", foo_bar, 10.0.0.1, "", "a:80"]
  http: [{route: [{destination: {host: a}}]}]`, []string{
		`IST0106! 5:11 spec.hosts[0] ~ "*.*" has a "*" that is not at its start`,
		`IST0106! 5:11 spec.hosts[0] ~ is covered by hosts[2]`,
		`IST0106! 5:18 spec.hosts[1] ~ "a*b" has a "*" that is not at its start`,
		`IST0106! 5:18 spec.hosts[1] ~ is covered by hosts[2]`,
		`IST0106! 5:23 spec.hosts[2] ~ "*" would take every call in the mesh`,
		`IST0106! 5:28 spec.hosts[3] ~ "foo_bar" has the label "foo_bar"`,
		`IST0106! 5:28 spec.hosts[3] ~ is covered by hosts[2]`,
		`IST0106! 5:37 spec.hosts[4] ~ "10.0.0.1" is an IP address`,
		`IST0106! 5:37 spec.hosts[4] ~ is covered by hosts[2]`,
		`IST0106! 5:47 spec.hosts[5] ~ "" is empty`,
		`IST0106! 5:51 spec.hosts[6] ~ "a:80" names a port`,
		`IST0106! 5:51 spec.hosts[6] ~ is covered by hosts[2]`,
	}},
	{"A-024 star beside a gateway and mesh", `
  hosts: ["*"]
  gateways: [edge, mesh]
  http: [{route: [{destination: {host: a}}]}]`, []string{
		`IST0106! 5:11 spec.hosts[0] ~ "*" would take every call in the mesh`,
	}},
	{"gateways", `
  hosts: [a]
  gateways: ["", edge.shop.svc.cluster.local, shop/, /edge, a/b/c, "*.x", edge_1, SHOP/edge]
  http: [{route: [{destination: {host: a}}]}]`, []string{
		`IST0106! 6:14 spec.gateways[0] ~ "" is no gateway`,
		`HDL0009? 6:18 spec.gateways[1] ~ write "shop/edge"`,
		`IST0106! 6:47 spec.gateways[2] ~ "shop/" is no gateway`,
		`IST0106! 6:54 spec.gateways[3] ~ "/edge" is no gateway`,
		`IST0106! 6:61 spec.gateways[4] ~ "a/b/c" is no gateway`,
		`IST0106! 6:68 spec.gateways[5] ~ "*.x" is no gateway`,
		`IST0106! 6:75 spec.gateways[6] ~ "edge_1" has the label`,
	}},
	{"no rules", `
  hosts: [a]`, []string{
		`IST0106! 4:1 spec ~ there is none of http, tls and tcp`,
	}},
	{"tls and tcp", `
  hosts: [a]
  tls:
  - match: [{sniHosts: [a]}]
    route: [{destination: {host: a}}]
  tcp: [{route: [{destination: {host: a}}]}]`, []string{}},
	{"tls and tcp that say nothing", `
  hosts: [a, '*.b']
  tls:
  - match: [{sniHosts: [c.b, c]}, {}]
    route: [{weight: 1}]
  - route: [{destination: {host: a}}]
  tcp:
  - match: [{port: 70000, destinationSubnets: [10.0.0.0/33], sourceSubnet: 10.0.0.0/8}]
  - route: [{destination: {host: a}, weight: -1}]
  - route: [{destination: {host: a}}]`, []string{
		`IST0106! 7:30 spec.tls[0].match[0].sniHosts[1] ~ "c" is not among the hosts of the VirtualService`,
		`IST0106! 7:35 spec.tls[0].match[1].sniHosts ~ sniHosts is missing`,
		`IST0106! 8:13 spec.tls[0].route[0].destination ~ destination is missing`,
		`IST0106! 9:5 spec.tls[1].match ~ match is missing`,
		`IST0106! 11:5 spec.tcp[0].route ~ route is missing`,
		`IST0106! 11:20 spec.tcp[0].match[0].port ~ 70000 is no port`,
		`IST0106! 11:48 spec.tcp[0].match[0].destinationSubnets[0] ~ "10.0.0.0/33" is no address and no CIDR`,
		`HDL0009? 11:76 spec.tcp[0].match[0].sourceSubnet ~ sourceSubnet is ignored, by Istio too`,
		`IST0106! 12:46 spec.tcp[1].route[0].weight ~ -1 is negative`,
		`IST0130? 13:5 spec.tcp[2] ~ never reached`,
	}},
}

func TestValidateVirtualServiceHosts(t *testing.T) {
	t.Parallel()
	runValidate(t, "VirtualService", hostCases)
}

// ruleSpec makes a VirtualService of one rule, which begins on line 7.
func ruleSpec(text string) string {
	return "  hosts: [reviews]\n  http:\n  - " + strings.ReplaceAll(strings.Trim(text, "\n"), "\n", "\n    ")
}

const toA = "\nroute: [{destination: {host: a}}]"

var actionCases = []validateCase{
	{"A-019 nothing to do", ruleSpec(`name: idle`), []string{
		`IST0106! 7:5 spec.http[0] ~ the rule has none of route, redirect, directResponse and delegate`,
	}},
	{"A-019 empty route", ruleSpec(`route: []`), []string{
		`IST0106! 7:5 spec.http[0] ~ the rule has none of route`,
	}},
	{"A-019 destinations", ruleSpec(`
route:
- weight: 100
- destination: {}
- destination: {host: ""}
- destination: {host: "*"}
- destination: {host: a, port: {number: 0}}
- destination: {host: a, port: {number: 65536}}
- destination: {host: a, port: {}}
- destination: {host: a, subset: v_1}`), []string{
		`IST0106! 8:7 spec.http[0].route[0].destination ~ destination is missing`,
		`IST0106! 9:7 spec.http[0].route[1].destination.host ~ the destination has no host`,
		`IST0106! 10:27 spec.http[0].route[2].destination.host ~ the destination has no host`,
		`IST0106! 11:27 spec.http[0].route[3].destination.host ~ "*" is every host and so no destination`,
		`IST0106! 12:45 spec.http[0].route[4].destination.port.number ~ 0 is no port`,
		`IST0106! 13:45 spec.http[0].route[5].destination.port.number ~ 65536 is no port`,
		`IST0106! 14:30 spec.http[0].route[6].destination.port.number ~ nothing is no port`,
		`IST0106! 15:38 spec.http[0].route[7].destination.subset ~ "v_1" is no name of a subset`,
	}},
	{"A-018 sum 99", ruleSpec(`
route:
- {destination: {host: a}, weight: 50}
- {destination: {host: b}, weight: 49}`), []string{
		`HDL0009? 7:5 spec.http[0].route ~ the weights sum to 99, not 100; shares are relative`,
	}},
	{"A-018 sum 101", ruleSpec(`
route:
- {destination: {host: a}, weight: 51}
- {destination: {host: b}, weight: 50}`), []string{
		`HDL0009? 7:5 spec.http[0].route ~ the weights sum to 101, not 100`,
	}},
	{"A-018 sum 0", ruleSpec(`
route:
- {destination: {host: a}, weight: 0}
- {destination: {host: b}}`), []string{
		`IST0106! 7:5 spec.http[0].route ~ the weights of 2 destinations sum to 0`,
	}},
	{"A-018 negative", ruleSpec(`
route:
- {destination: {host: a}, weight: -1}
- {destination: {host: b}, weight: 101}`), []string{
		`IST0106! 8:40 spec.http[0].route[0].weight ~ -1 is negative`,
	}},
	{"A-018 overflow when summed", ruleSpec(`
route:
- {destination: {host: a}, weight: 2147483647}
- {destination: {host: b}, weight: 2147483647}
- {destination: {host: c}, weight: 2}`), []string{
		`IST0106! 7:5 spec.http[0].route ~ the weights sum to 4294967296`,
	}},
	{"redirect and route", ruleSpec("redirect: {uri: /a}" + toA), []string{
		`IST0106! 7:5 spec.http[0].redirect ~ route and redirect exclude each other`,
	}},
	{"direct response with fault and rewrite", ruleSpec(`
directResponse: {status: 200}
fault: {abort: {httpStatus: 500}}
rewrite: {uri: /}`), []string{
		`IST0106! 8:5 spec.http[0].fault ~ directResponse and fault exclude each other`,
		`IST0106! 9:5 spec.http[0].rewrite ~ directResponse and rewrite exclude each other`,
	}},
	{"delegate and redirect", ruleSpec(`
delegate: {name: other, namespace: shop}
redirect: {uri: /a}`), []string{
		`IST0106! 7:5 spec.http[0].delegate ~ redirect and delegate exclude each other`,
	}},
	{"delegate and route", ruleSpec("delegate: {name: other}" + toA), []string{
		`IST0106! 7:5 spec.http[0].delegate ~ route and delegate exclude each other`,
	}},
	{"delegate and what it inherits", ruleSpec(`
delegate: {name: other}
directResponse: {status: 200}
rewrite: {uri: /}
fault: {abort: {httpStatus: 500, percentage: {value: 1}}}
mirror: {host: a}`), nil},
}

func TestValidateActions(t *testing.T) {
	t.Parallel()
	runValidate(t, "VirtualService", actionCases)
}
