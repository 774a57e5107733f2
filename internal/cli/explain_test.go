package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	t.Chdir("testdata")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"header decides", []string{"-H", "end-user: jason", "http://reviews:9080/reviews/1"}, `
request    GET reviews:9080/reviews/1
host       reviews.default.svc.cluster.local:9080
           ServiceEntry default/reviews ports[0] (bookinfo/services.yaml:11:5)
rule 1     VirtualService default/reviews http[0] (bookinfo/reviews.yaml:24:5)
           if   header end-user exact "jason"
           yes  it matches
rule 2     VirtualService default/reviews http[1] (bookinfo/reviews.yaml:29:5)
           if   any request
                not tried: an earlier rule matched
route      default/reviews/http[0]
cluster    outbound|9080|v2|reviews.default.svc.cluster.local
           DestinationRule default/reviews subsets[1] (bookinfo/reviews.yaml:12:5), trafficPolicy (bookinfo/reviews.yaml:7:3)
           100 % of calls, ROUND_ROBIN, HTTP/1.1
           10.1.0.12:9080   weight 3, app=reviews, version=v2
           10.1.0.112:9080  weight 1, app=reviews, version=v2, in eu/eu-1
verdict    forward
`},
		{"without the header", []string{"reviews:9080/reviews/1"}, `
request    GET reviews:9080/reviews/1
host       reviews.default.svc.cluster.local:9080
           ServiceEntry default/reviews ports[0] (bookinfo/services.yaml:11:5)
rule 1     VirtualService default/reviews http[0] (bookinfo/reviews.yaml:24:5)
           if   header end-user exact "jason"
           no   header end-user is missing, the rule wants exact "jason"
rule 2     VirtualService default/reviews http[1] (bookinfo/reviews.yaml:29:5)
           if   any request
           yes  it matches
route      default
cluster    outbound|9080|v1|reviews.default.svc.cluster.local
           DestinationRule default/reviews subsets[0] (bookinfo/reviews.yaml:10:5), trafficPolicy (bookinfo/reviews.yaml:7:3)
           100 % of calls, ROUND_ROBIN, HTTP/1.1
           10.1.0.11:9080  weight 1, app=reviews, version=v1
verdict    forward
`},
		{"shares", []string{"details:9080"}, `
request    GET details:9080/
host       details.default.svc.cluster.local:9080
           ServiceEntry default/details ports[0] (bookinfo/services.yaml:48:5)
rule 1     VirtualService default/details http[0] (bookinfo/ratings.yaml:22:5)
           if   any request
           yes  it matches
route      default/details/http[0]
cluster    outbound|9080||details.default.svc.cluster.local
           80 % of calls, LEAST_REQUEST, HTTP/1.1
           10.1.0.31:9080  weight 1, app=details, version=v1
cluster    outbound|9080|v3|reviews.default.svc.cluster.local
           DestinationRule default/reviews subsets[2] (bookinfo/reviews.yaml:14:5), trafficPolicy (bookinfo/reviews.yaml:7:3)
           20 % of calls, ROUND_ROBIN, HTTP/1.1
           10.1.0.13:9080  weight 1, app=reviews, version=v3
verdict    forward
`},
		{"no rule matches", []string{"-X", "POST", "//ratings.default:9080/ratings/1"}, `
request    POST ratings.default:9080/ratings/1
host       ratings.default.svc.cluster.local:9080
           ServiceEntry default/ratings ports[0] (bookinfo/services.yaml:27:5)
rule 1     VirtualService default/ratings http[0] (bookinfo/ratings.yaml:8:5)
           if   path prefix "/ratings/", method exact "GET"
           no   method "POST" is not exact "GET"
           if   path exact "/health"
           no   path "/ratings/1" is not exact "/health"
verdict    reject, flag NR: no rule matches
`},
		{"second match, endpoint of a WorkloadEntry", []string{"ratings:9080/health"}, `
request    GET ratings:9080/health
host       ratings.default.svc.cluster.local:9080
           ServiceEntry default/ratings ports[0] (bookinfo/services.yaml:27:5)
rule 1     VirtualService default/ratings http[0] (bookinfo/ratings.yaml:8:5)
           if   path prefix "/ratings/", method exact "GET"
           no   path "/health" is not prefix "/ratings/"
           if   path exact "/health"
           yes  it matches
route      default/ratings/http[0]
cluster    outbound|9080||ratings.default.svc.cluster.local
           100 % of calls, LEAST_REQUEST, HTTP/1.1
           10.1.0.21:9080  weight 1, app=ratings, version=v1, from WorkloadEntry default/ratings-v1
verdict    forward
`},
		{"unknown host", []string{"http://example.com/x"}, `
request    GET example.com:80/x
verdict    passthrough: the mesh does not know the host
`},
		{"unknown host, REGISTRY_ONLY", []string{"--outbound-traffic-policy", "REGISTRY_ONLY", "https://example.com/x"}, `
request    GET example.com:443/x
verdict    reject, flag UH: the mesh does not know the host; the outbound traffic policy is REGISTRY_ONLY
`},
		{"undeclared port, REGISTRY_ONLY", []string{"--outbound-traffic-policy", "REGISTRY_ONLY", "reviews/x"}, `
request    GET reviews:80/x
verdict    reject, flag UH: the mesh knows the host, but not on this port; its ports are 9080; the outbound traffic policy is REGISTRY_ONLY
`},
		{"undeclared port", []string{"reviews/x"}, `
request    GET reviews:80/x
verdict    passthrough: the mesh knows the host, but not on this port; its ports are 9080
`},
		{"the program's own TLS", []string{"https://details:9080/x"}, `
request    GET details:9080/x
host       details.default.svc.cluster.local:9080
           ServiceEntry default/details ports[0] (bookinfo/services.yaml:48:5)
route      default
           ServiceEntry default/details (bookinfo/services.yaml:48)
cluster    outbound|9080||details.default.svc.cluster.local
           100 % of calls, LEAST_REQUEST, HTTP/1.1
           10.1.0.31:9080  weight 1, app=details, version=v1
verdict    forward: the program's own TLS: rules of HTTP do not apply
`},
		{"Host header decides", []string{"-H", "Host: details", "http://elsewhere:9080/x"}, `
request    GET details:9080/x
host       details.default.svc.cluster.local:9080
           ServiceEntry default/details ports[0] (bookinfo/services.yaml:48:5)
rule 1     VirtualService default/details http[0] (bookinfo/ratings.yaml:22:5)
           if   any request
           yes  it matches
route      default/details/http[0]
cluster    outbound|9080||details.default.svc.cluster.local
           80 % of calls, LEAST_REQUEST, HTTP/1.1
           10.1.0.31:9080  weight 1, app=details, version=v1
cluster    outbound|9080|v3|reviews.default.svc.cluster.local
           DestinationRule default/reviews subsets[2] (bookinfo/reviews.yaml:14:5), trafficPolicy (bookinfo/reviews.yaml:7:3)
           20 % of calls, ROUND_ROBIN, HTTP/1.1
           10.1.0.13:9080  weight 1, app=reviews, version=v3
verdict    forward
`},
		{"short name of another namespace", []string{"inventory:8080/x"}, `
request    GET inventory:8080/x
verdict    passthrough: the mesh does not know the host
hint       inventory is short for inventory.default.svc.cluster.local here; the mesh knows inventory.shop.svc.cluster.local
`},
		{"from that namespace", []string{"--from", "shop/web", "inventory:8080/x"}, `
request    GET inventory:8080/x
host       inventory.shop.svc.cluster.local:8080
           ServiceEntry shop/inventory ports[0] (bookinfo/services.yaml:62:5)
rule 1     ServiceEntry shop/inventory (bookinfo/services.yaml:62)
           if   any request
           yes  it matches
route      default
cluster    outbound|8080||inventory.shop.svc.cluster.local
           100 % of calls, LEAST_REQUEST, HTTP/1.1
           10.1.0.41:8080  weight 1
verdict    forward
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := heddle(t, "", append([]string{"explain", "--config", "bookinfo"}, c.args...)...)
			if r.code != exitOK || r.stderr != "" {
				t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
			}
			same(t, "stdout", r.stdout, c.want)
		})
	}
}

// TestExplainFaults: what part of the calls fails, and why, is said where some still go through.
func TestExplainFaults(t *testing.T) {
	t.Parallel()
	destination := func(subset, weight string) string {
		return "    - destination: {host: reviews, subset: " + subset + "}\n      weight: " + weight + "\n"
	}
	base := registry + "  - {name: v2, labels: {version: v2}}\n---\n" + strings.SplitAfter(dangling, "- route:\n")[0]
	for _, c := range []struct {
		name, split string
		want        []string // in this order
	}{
		{"some", destination("v1", "50") + destination("v2", "30") + destination("v9", "20"), []string{
			"\n           50 % of calls, LEAST_REQUEST, HTTP/1.1\n           10.1.0.11:9080  weight 1, version=v1\n",
			"\n           30 % of calls, LEAST_REQUEST, HTTP/1.1\n           no endpoint (flag UH)\n",
			"\n           20 % of calls\n           subset v9 of reviews.default.svc.cluster.local is not defined by DestinationRule default/reviews (<stdin>:18), which has v1, v2 (flag NC)\n",
			"\nverdict    forward; 20 % of calls are rejected, flag NC; 30 % of calls are rejected, flag UH\n",
		}},
		{"thirds", destination("v1", "1") + destination("v1", "2"), []string{
			"\n           33.33 % of calls", "\n           66.67 % of calls", "\nverdict    forward\n"}},
		{"no endpoint", destination("v2", "1"), []string{"\nverdict    reject, flag UH: no healthy upstream\n"}},
		{"no cluster", destination("v9", "1"), []string{"\nverdict    reject, flag NC: the route's destination does not exist\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := heddle(t, base+c.split, "explain", "--config", "-", "reviews:9080")
			if r.code != exitOK {
				t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
			}
			rest := r.stdout
			for _, want := range c.want {
				var ok bool
				if _, rest, ok = strings.Cut(rest, strings.TrimSuffix(want, "\n")); !ok {
					t.Fatalf("no %q in:\n%s", want, r.stdout)
				}
			}
		})
	}
}

func TestExplainJSON(t *testing.T) {
	t.Parallel()
	r := heddle(t, "", "explain", "--config", "testdata/bookinfo", "-o", "json", "details:9080/a%2e%2e")
	var d struct {
		Host, Path, Verdict, Flag, VirtualHost, HostOrigin string
		Rules                                              []struct{ Matched bool }
		Destinations                                       []struct {
			Cluster   string
			Origin    string
			Share     float64
			Endpoints []struct{ Address string }
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &d); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	if r.code != exitOK || d.Host != "details" || d.Path != "/a.." || d.Verdict != "forward" || d.Flag != "-" || len(d.Rules) != 1 ||
		!d.Rules[0].Matched || len(d.Destinations) != 2 || d.Destinations[0].Share != 0.8 || d.Destinations[1].Share != 0.2 ||
		d.Destinations[1].Endpoints[0].Address != "10.1.0.13:9080" ||
		d.HostOrigin != "ServiceEntry default/details ports[0] (testdata/bookinfo/services.yaml:48:5)" || d.Destinations[0].Origin != "" ||
		!strings.HasPrefix(d.Destinations[1].Origin, "DestinationRule default/reviews subsets[2] (testdata/bookinfo/reviews.yaml:14:5)") {
		t.Errorf("exit code %d, %+v", r.code, d)
	}
}

func TestExplainRefusedConfiguration(t *testing.T) {
	files(t, map[string]string{"typo.yaml": typo, "broken.yaml": broken, "policy.yaml": restricting, "r.yaml": registry})
	for _, c := range []struct {
		name string
		args []string
		want result
	}{
		{"typo", []string{"--config", "typo.yaml"}, result{79, "",
			`Error [IST0106] (VirtualService default/reviews typo.yaml:7:5) spec.http[0].retrise: unknown field "retrise"; did you mean "retries"? expected one of [corsPolicy delegate directResponse fault headers match mirror mirrorPercent mirrorPercentage mirrors name redirect … and 4 more]
heddle: the configuration is refused: 1 error
`}},
		{"broken", []string{"--config", "r.yaml", "--config", "broken.yaml"}, result{65, "",
			"Error [IST0106] (broken.yaml:7:5) cannot parse YAML: did not find expected ',' or ']'\nheddle: the configuration is refused: 1 error\n"}},
		{"missing", []string{"--config", "nowhere"}, result{65, "",
			"Error [HDL0001] (nowhere) cannot read: no such file or directory\nheddle: the configuration is refused: 1 error\n"}},
		{"policy", []string{"--config", "policy.yaml"}, result{79, "", strings.ReplaceAll(errRestricts, "mesh.d/a.yaml", "policy.yaml") +
			"heddle: the configuration is refused: 1 error\n"}},
		{"policy ignored", []string{"--config", "policy.yaml", "--ignore-kind", "EnvoyFilter"}, result{0,
			"request    GET reviews:80/\nverdict    passthrough: the mesh does not know the host\n", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := heddle(t, "", append(append([]string{"explain"}, c.args...), "reviews")...)
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// FuzzExplainRequest: whatever the arguments, a request that is made has a host and only the headers asked for.
func FuzzExplainRequest(f *testing.F) {
	f.Add("reviews:9080/x", "GET", "end-user: jason")
	f.Add("//reviews", "", "Host: a")
	f.Add("http://[::1]:80/?a=b#c", "BAD METHOD", "a:b\r\nc: d")
	f.Add("https://user:pass@h/%2e%2e", "PURGE", ": x")
	f.Fuzz(func(t *testing.T, target, method, header string) {
		o := &explainFlags{method: method, headers: headers{}}
		if o.headers.Set(header) == nil && len(o.headers) != 1 {
			t.Fatalf("%q makes %v", header, o.headers)
		}
		req, err := o.request(t.Context(), target)
		if err == nil && (req.URL.Hostname() == "" || req.Header.Get("Host") != "") {
			t.Fatalf("%q makes %v", target, req)
		}
	})
}
