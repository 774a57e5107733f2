package transport

import (
	"cmp"
	"strconv"

	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// A HostView is one host that calls can be made to, on one of its ports, with its rules in the order in which they are asked.
type HostView struct {
	Host   string      `json:"host"`
	Port   uint16      `json:"port"`
	Also   []string    `json:"domains,omitempty"` // further names of it
	HTTP   bool        `json:"http"`              // rules of HTTP apply
	Origin string      `json:"origin,omitempty"`
	Routes []RouteView `json:"routes"`
}

// A RouteView is one rule of a host, or what takes the connections of a port that is not HTTP.
type RouteView struct {
	Name         string   `json:"name"`
	Match        []string `json:"match,omitempty"` // each of which is enough; none takes everything
	Destinations []string `json:"destinations,omitempty"`
	Answer       string   `json:"answer,omitempty"` // what the rule answers itself
	Origin       string   `json:"origin,omitempty"` // where it was written
}

// Routes lists the hosts of the live snapshot.
func (e *Engine) Routes() []HostView {
	all := []HostView{}
	t := e.Snapshot().Tables[snapshot.Mesh]
	if t == nil {
		return all
	}
	for _, h := range t.VirtualHosts() {
		v := HostView{Host: h.Host, Port: h.Port, Also: h.Also, HTTP: h.HTTP, Origin: h.Origin, Routes: []RouteView{}}
		routes := h.Routes
		if !h.HTTP {
			routes = nil
			for _, r := range h.Conns {
				v.Routes = append(v.Routes, viewOfConn(r))
			}
			if rest := h.Rest(); rest != nil {
				routes = []*routing.Route{rest}
			}
		}
		for _, r := range routes {
			v.Routes = append(v.Routes, viewOf(r))
		}
		all = append(all, v)
	}
	return all
}

func viewOfConn(r *routing.ConnRule) RouteView {
	v := viewOf(r.Route)
	for i := range r.Matches {
		v.Match = append(v.Match, r.Matches[i].String())
	}
	return v
}

func viewOf(r *routing.Route) RouteView {
	v := RouteView{Name: cmp.Or(r.Name, "-"), Origin: r.Origin}
	for i := range r.Matches {
		v.Match = append(v.Match, r.Matches[i].String())
	}
	for i := range r.Split {
		d := &r.Split[i]
		text := d.Cluster
		if len(r.Split) > 1 {
			text += " (" + strconv.FormatUint(uint64(d.Weight), 10) + ")"
		}
		v.Destinations = append(v.Destinations, text)
	}
	switch {
	case r.Redirect != nil:
		v.Answer = "redirect " + strconv.Itoa(r.Redirect.Code)
	case r.Direct != nil:
		v.Answer = "direct response " + strconv.Itoa(r.Direct.Status)
	}
	return v
}
