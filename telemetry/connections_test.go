package telemetry

import (
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

// TestConns: each connection is counted once, under its labels; beyond the bound under those of everything else.
func TestConns(t *testing.T) {
	t.Parallel()
	s := NewStore(Options{MaxSeries: 2})
	l := Labels{Reporter: Source, Source: Workload{Name: "shop"}, Service: Service{Host: "db.example.com", Name: "db.example.com"}}
	open := s.Conns(l, 0)
	open.Opened()
	open.Sent(5)
	open.Received(7)
	if s.Conns(l, 0) != open {
		t.Error("the labels have two series")
	}
	s.Conns(l, call.FlagUF).Closed()
	for _, host := range []string{"a", "b"} {
		l.Service.Host = host
		s.Conns(l, 0).Opened()
	}
	got := make(map[string]float64)
	for _, f := range s.Gather() {
		for _, sample := range f.Samples {
			if !strings.HasPrefix(f.Name, "istio_tcp") || sample.Value == 0 {
				continue
			}
			key := f.Name
			for _, label := range sample.Labels {
				switch label.Name {
				case "destination_service", "response_flags", "request_protocol":
					key += " " + label.Value
				case "response_code", "grpc_response_status":
					t.Errorf("%s has the label %s", f.Name, label.Name)
				}
			}
			got[key] = sample.Value
		}
	}
	want := map[string]float64{
		ConnsOpened + " db.example.com tcp -":   1,
		BytesSent + " db.example.com tcp -":     5,
		BytesReceived + " db.example.com tcp -": 7,
		ConnsClosed + " db.example.com tcp UF":  1,
		ConnsOpened + " other tcp -":            2,
	}
	for key, v := range want {
		if got[key] != v {
			t.Errorf("%s: %v, want %v", key, got[key], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	s.SetView(&View{Overrides: [2]map[string]Override{Source: {ConnsOpened: {Disabled: true}}}})
	for _, f := range s.Gather() {
		if f.Name == ConnsOpened {
			t.Errorf("disabled: %+v", f)
		}
	}
}
