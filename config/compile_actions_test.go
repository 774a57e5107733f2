package config

import (
	"reflect"
	"testing"

	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestCompilesActions: what the rule's answers and redirects are made of, as far as no test with calls has it.
func TestCompilesActions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rule string
		got        func(r *routing.Route) any
		want       any
	}{
		{"scheme", "redirect: {scheme: https}", func(r *routing.Route) any { return *r.Redirect }, routing.Redirect{Code: 301, Scheme: "https"}},
		{"derivePort of the request", "redirect: {uri: /b, derivePort: FROM_REQUEST_PORT}", func(r *routing.Route) any { return *r.Redirect },
			routing.Redirect{Code: 301, Path: "/b", Port: 9080}},
		{"derivePort of the scheme", "redirect: {uri: /b, derivePort: FROM_PROTOCOL_DEFAULT}", func(r *routing.Route) any { return *r.Redirect },
			routing.Redirect{Code: 301, Path: "/b"}},
		{"body in bytes", "directResponse: {status: 503, body: {bytes: aMOp}}", func(r *routing.Route) any { return string(r.Direct.Body) }, "h\xc3\xa9"},
		{"unmatchedPreflights: IGNORE", "corsPolicy: {unmatchedPreflights: IGNORE}, route: [{destination: {host: reviews}}]",
			func(r *routing.Route) any { return r.CORS.AnswerUnmatched }, true},
		{"unmatchedPreflights: FORWARD", "corsPolicy: {unmatchedPreflights: FORWARD}, route: [{destination: {host: reviews}}]",
			func(r *routing.Route) any { return r.CORS.AnswerUnmatched }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{}, doc("ServiceEntry", "reviews", reviewsEntry), doc("VirtualService", "reviews", "{hosts: [reviews], http: [{"+c.rule+"}]}"))
			if refused := w.Status().Refused; refused != nil {
				t.Fatal(refused)
			}
			host, _ := w.live.Tables[snapshot.Mesh].Lookup("reviews", 9080)
			if got := c.got(host.Routes[0]); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
