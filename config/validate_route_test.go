package config

import (
	"encoding/base64"
	"strings"
	"testing"
)

// Fields that are not built: their values are checked first, then the field is refused.
var routeCases = []validateCase{
	{"A-034 off", ruleSpec("timeout: 0s" + toA), nil},
	{"A-034 on", ruleSpec("timeout: 1s" + toA), []string{}},
	{"A-034 negative", ruleSpec("timeout: -1s" + toA), []string{
		`IST0106! 7:14 spec.http[0].timeout ~ "-1s" is negative`,
	}},
	{"A-034 too short", ruleSpec("timeout: 1us" + toA), []string{
		`IST0106! 7:14 spec.http[0].timeout ~ "1us" is shorter than 1ms`,
	}},
	{"A-034 fraction", ruleSpec("timeout: 1500us" + toA), []string{
		`IST0106! 7:14 spec.http[0].timeout ~ "1500us" has a fraction of a millisecond`,
	}},
	{"A-027 headers", ruleSpec(`
headers:
  request:
    set: {"": a, "a b": b, "a:": c}
    add: {x-a: "a\r\nb: c", x-b: "\0", x-c: 100%, x-d: "100%% %REQ(:path)% %START_TIME%"}
    remove: ["a\n"]
route: [{destination: {host: a}}]`), []string{
		`IST0106! 9:15 spec.http[0].headers.request.set[""] ~ "" is no name of a header`,
		`IST0106! 9:22 spec.http[0].headers.request.set["a b"] ~ "a b" is no name of a header`,
		`IST0106! 9:32 spec.http[0].headers.request.set["a:"] ~ "a:" is no name of a header`,
		`IST0106! 10:20 spec.http[0].headers.request.add.x-a ~ has a control character`,
		`IST0106! 10:38 spec.http[0].headers.request.add.x-b ~ has a control character`,
		`IST0106! 10:49 spec.http[0].headers.request.add.x-c ~ a single %`,
		`IST0106! 11:18 spec.http[0].headers.request.remove[0] ~ is no name of a header`,
	}},
	{"A-028 headers of a destination", ruleSpec(`
route:
- destination: {host: a}
  headers:
    request:
      set: {Host: b}
      add: {":path": /, ":authority": c}
      remove: [host, Content-Length]
    response:
      set: {host: b, Transfer-Encoding: chunked}
      add: {Connection: close, grpc-status: "0", ":authority": d}`), []string{
		`IST0106! 12:17 spec.http[0].route[0].headers.request.add[":path"] ~ ":path" cannot be changed here`,
		`IST0106! 12:29 spec.http[0].route[0].headers.request.add[":authority"] ~ rewrites the authority a second time`,
		`IST0106! 13:20 spec.http[0].route[0].headers.request.remove[0] ~ "host" cannot be changed here`,
		`IST0106! 13:26 spec.http[0].route[0].headers.request.remove[1] ~ "Content-Length" cannot be changed`,
		`IST0106! 15:17 spec.http[0].route[0].headers.response.set.host ~ "host" cannot be changed here`,
		`IST0106! 15:26 spec.http[0].route[0].headers.response.set.Transfer-Encoding ~ it belongs to the framing`,
		`IST0106! 16:17 spec.http[0].route[0].headers.response.add.Connection ~ cannot be changed`,
		`IST0106! 16:36 spec.http[0].route[0].headers.response.add.grpc-status ~ cannot be changed`,
		`IST0106! 16:54 spec.http[0].route[0].headers.response.add[":authority"] ~ cannot be changed here`,
	}},
	{"A-028 authority in two places", ruleSpec("rewrite: {authority: b}\nheaders: {request: {set: {host: c}}}" + toA), []string{
		`IST0106! 8:31 spec.http[0].headers.request.set.host ~ rewrites the authority a second time`,
	}},
	{"A-029 without a slash", ruleSpec("rewrite: {uri: a}" + toA), []string{
		`IST0106! 7:20 spec.http[0].rewrite.uri ~ "a" does not begin with "/"; write "/a"`,
	}},
	{"A-029 line break", ruleSpec(`rewrite: {uri: "/a\r\nb", authority: "a b"}` + toA), []string{
		`IST0106! 7:20 spec.http[0].rewrite.uri ~ has a control character`,
		`IST0106! 7:42 spec.http[0].rewrite.authority ~ "a b" is no authority`,
	}},
	{"A-029 dots", ruleSpec("rewrite: {uri: /a/../b}" + toA), []string{
		`IST0106! 7:20 spec.http[0].rewrite.uri ~ leads out of its directory`,
	}},
	{"A-029 group", ruleSpec(`rewrite: {uriRegexRewrite: {match: "/(a)(b)", rewrite: '/\2\3\\9'}}` + toA), []string{
		`IST0106! 7:60 spec.http[0].rewrite.uriRegexRewrite.rewrite ~ inserts group \3, and match has 2`,
	}},
	{"A-029 nothing", ruleSpec("rewrite: {}" + toA), []string{
		`IST0106! 7:5 spec.http[0].rewrite ~ the rewrite changes nothing`,
	}},
	{"A-029 both", ruleSpec("rewrite: {uri: /a, uriRegexRewrite: {match: '('}}" + toA), []string{
		`IST0106! 7:24 spec.http[0].rewrite.uriRegexRewrite ~ uri and uriRegexRewrite exclude each other`,
		`IST0106! 7:49 spec.http[0].rewrite.uriRegexRewrite.match ~ missing closing )`,
	}},
	{"A-030 code", ruleSpec("redirect: {uri: /a, redirectCode: 299}"), []string{
		`IST0106! 7:39 spec.http[0].redirect.redirectCode ~ 299 is no redirect`,
	}},
	{"A-030 loop", ruleSpec("match: [{uri: {exact: /a}}]\nredirect: {uri: /a, redirectCode: 308}"), []string{
		`IST0106! 8:21 spec.http[0].redirect.uri ~ "/a" redirects to itself: match[0] takes it again`,
	}},
	{"A-030 elsewhere is no loop", ruleSpec("match: [{uri: {exact: /a}}]\nredirect: {uri: /a, scheme: https}"), []string{}},
	{"redirect values", ruleSpec("redirect: {scheme: ftp, port: 0, authority: 'a/b', prefixRewrite: \"/\\n\"}"), []string{
		`IST0106! 7:24 spec.http[0].redirect.scheme ~ "ftp" is no scheme to redirect to`,
		`IST0106! 7:35 spec.http[0].redirect.port ~ 0 is no port`,
		`IST0106! 7:49 spec.http[0].redirect.authority ~ "a/b" is no authority`,
		`IST0106! 7:71 spec.http[0].redirect.prefixRewrite ~ has a control character`,
	}},
	{"redirect into the host", ruleSpec("redirect: {uri: .evil.example/x}"), []string{
		`IST0106! 7:21 spec.http[0].redirect.uri ~ ".evil.example/x" does not begin with "/"`,
	}},
	{"host that is none", ruleSpec("headers: {request: {set: {host: '%REQ(x-host)%'}}}" + toA), []string{
		`IST0106! 7:37 spec.http[0].headers.request.set.host ~ is no authority`,
	}},
	{"redirect of nothing", ruleSpec("redirect: {}"), []string{
		`IST0106! 7:5 spec.http[0].redirect ~ the redirect changes nothing`,
	}},
	{"A-031 status", ruleSpec("directResponse: {status: 99}"), []string{
		`IST0106! 7:30 spec.http[0].directResponse.status ~ 99 is out of range; write 200 to 599`,
	}},
	{"A-031 no status", ruleSpec("directResponse: {body: {string: a}}"), []string{
		`IST0106! 7:5 spec.http[0].directResponse.status ~ status is missing`,
	}},
	{"A-031 body", ruleSpec("directResponse: {status: 200, body: {string: " + strings.Repeat("a", 1<<20+1) + "}}"), []string{
		`IST0106! 7:35 spec.http[0].directResponse.body ~ the body has 1048577 bytes`,
	}},
	{"A-031 large body", ruleSpec("directResponse: {status: 200, body: {bytes: " + base64.StdEncoding.EncodeToString(make([]byte, 102401)) + "}}"), []string{
		`HDL0009? 7:35 spec.http[0].directResponse.body ~ the body has 102401 bytes`,
	}},
	{"delegate", ruleSpec("delegate: {name: A, namespace: a.b}"), []string{
		`IST0106! 7:22 spec.http[0].delegate.name ~ "A" is no name of a VirtualService`,
		`IST0106! 7:36 spec.http[0].delegate.namespace ~ "a.b" is no namespace`,
	}},
	{"A-033 fault", ruleSpec(`
fault:
  delay: {fixedDelay: -1s, percentage: {value: 100.01}, percent: 101}
  abort: {httpStatus: 700, percentage: {value: 0.00001}}
route: [{destination: {host: a}}]`), []string{
		`IST0106! 8:27 spec.http[0].fault.delay.fixedDelay ~ "-1s" is negative`,
		`IST0106! 8:52 spec.http[0].fault.delay.percentage.value ~ 100.01 is no percentage`,
		`IST0106! 8:70 spec.http[0].fault.delay.percent ~ 101 is out of range`,
		`IST0106! 9:27 spec.http[0].fault.abort.httpStatus ~ 700 is out of range`,
		`IST0106! 9:52 spec.http[0].fault.abort.percentage.value ~ 0.00001 is less than the smallest share`,
	}},
	{"A-033 kinds of fault", ruleSpec("fault: {delay: {exponentialDelay: 1s}, abort: {grpcStatus: UNAVAILABEL}}" + toA), []string{
		`IST0106! 7:39 spec.http[0].fault.delay.exponentialDelay ~ is not supported`,
		`IST0106! 7:64 spec.http[0].fault.abort.grpcStatus ~ did you mean "UNAVAILABLE"?`,
	}},
	{"A-033 fault without its kind", ruleSpec("fault: {delay: {}, abort: {}}" + toA), []string{
		`IST0106! 7:13 spec.http[0].fault.delay ~ the delay has no length`,
		`IST0106! 7:24 spec.http[0].fault.abort ~ the abort has no error`,
	}},
	{"A-032 mirror and mirrors", ruleSpec("mirror: {host: b}\nmirrors: [{destination: {host: c}, percentage: {value: 101}}, {}]" + toA), []string{
		`IST0106! 8:5 spec.http[0].mirrors ~ mirror and mirrors exclude each other`,
		`IST0106! 8:60 spec.http[0].mirrors[0].percentage.value ~ 101 is no percentage`,
		`IST0106! 8:67 spec.http[0].mirrors[1].destination ~ destination is missing`,
	}},
	{"A-032 percentages", ruleSpec("mirror: {}\nmirrorPercentage: {value: -1}\nmirrorPercent: 101" + toA), []string{
		`IST0106! 7:5 spec.http[0].mirror.host ~ the destination has no host`,
		`IST0106! 8:31 spec.http[0].mirrorPercentage.value ~ -1 is no percentage`,
		`IST0106! 9:20 spec.http[0].mirrorPercent ~ 101 is out of range`,
	}},
	{"mirrors and a percentage of nothing", ruleSpec("mirrors: [{destination: {host: b}}]\nmirrorPercentage: {value: 1}" + toA), []string{
		`HDL0009? 8:5 spec.http[0].mirrorPercentage ~ no effect without mirror`,
	}},
	{"cors", ruleSpec("corsPolicy: {allowOrigins: [{regex: '('}], maxAge: 1us}" + toA), []string{
		`IST0106! 7:41 spec.http[0].corsPolicy.allowOrigins[0].regex ~ missing closing )`,
		`IST0106! 7:56 spec.http[0].corsPolicy.maxAge ~ is shorter than 1ms`,
	}},
}

func TestValidateRoute(t *testing.T) {
	t.Parallel()
	runValidate(t, "VirtualService", routeCases)
}

var retryCases = []validateCase{
	{"A-035 negative", ruleSpec("retries: {attempts: -1}" + toA), []string{
		`IST0106! 7:25 spec.http[0].retries.attempts ~ -1 is negative`,
	}},
	{"A-035 many", ruleSpec("retries: {attempts: 1000}" + toA), []string{
		`HDL0009? 7:25 spec.http[0].retries.attempts ~ 1000 retries multiply the load`,
	}},
	{"A-035 fields without attempts", ruleSpec("retries: {retryOn: 5xx, retryIgnorePreviousHosts: true}" + toA), []string{
		`IST0106! 7:5 spec.http[0].retries.attempts ~ attempts is 0 or missing, but these are set: retryIgnorePreviousHosts, retryOn`,
	}},
	{"A-035 fields with attempts 0", ruleSpec("retries: {attempts: 0, backoff: 1s}" + toA), []string{
		`IST0106! 7:25 spec.http[0].retries.attempts ~ these are set: backoff`,
	}},
	{"A-035 per try and total", ruleSpec("timeout: 2s\nretries: {attempts: 1, perTryTimeout: 2s}" + toA), []string{
		`HDL0009? 8:43 spec.http[0].retries.perTryTimeout ~ 2s is not less than the timeout of the whole call, 2s`,
	}},
	{"A-035 unknown condition", ruleSpec("retries: {attempts: 1, retryOn: '5xx,conect-failure'}" + toA), []string{
		`IST0106! 7:37 spec.http[0].retries.retryOn ~ "conect-failure" at byte 4 of "5xx,conect-failure" is no retry condition and no status from 100 to 599; did you mean one of connect-failure`,
	}},
	{"A-035 spaces", ruleSpec("retries: {attempts: 1, retryOn: '5xx, reset'}" + toA), []string{
		`IST0106! 7:37 spec.http[0].retries.retryOn ~ there is a space at " reset", byte 4`,
	}},
	{"A-035 empty", ruleSpec("retries: {attempts: 1, retryOn: '5xx,,reset'}" + toA), []string{
		`IST0106! 7:37 spec.http[0].retries.retryOn ~ empty token at byte 4`,
	}},
	{"A-035 status", ruleSpec("retries: {attempts: 1, retryOn: '99'}" + toA), []string{
		`IST0106! 7:37 spec.http[0].retries.retryOn ~ "99" at byte 0`,
	}},
	{"durations", ruleSpec("retries: {attempts: 1, perTryTimeout: 0s, backoff: 999us, retryRemoteLocalities: true}" + toA), []string{
		`IST0106! 7:43 spec.http[0].retries.perTryTimeout ~ "0s" is shorter than 1ms`,
		`IST0106! 7:56 spec.http[0].retries.backoff ~ "999us" is shorter than 1ms`,
	}},
}

func TestValidateRetries(t *testing.T) {
	t.Parallel()
	runValidate(t, "VirtualService", retryCases)
}
