// Package findings tells what is not as the mesh's configuration means it to be, although nothing fails: where requests go around a
// waypoint, and what waypoints do not see; who tries many ports; and in what the ztunnels are not alike.
package findings

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Kinds of findings.
const (
	// Bypassed: connections reach a workload directly, although its service has a waypoint.
	Bypassed = "waypoint_bypassed"
	// Missing: the waypoint that a service is to be reached through does not exist, or has no healthy pod.
	Missing = "waypoint_missing"
	// Unused: no service uses a waypoint, or it sees no connection to the services that do.
	Unused = "waypoint_unused"
	// Unobserved: connections go through a waypoint, and nobody tells of their requests.
	Unobserved = "requests_not_seen"
	// VersionSkew: not all ztunnels are of one version.
	VersionSkew = "version_skew"
	// SettingsDiffer: ztunnels of one cluster do not all have the same settings.
	SettingsDiffer = "settings_differ"
	// PortScan: somebody tried many ports of somebody else.
	PortScan = "port_scan"
)

// Kinds are all kinds.
var Kinds = []string{Bypassed, Missing, Unused, Unobserved, PortScan, VersionSkew, SettingsDiffer}

const (
	severityWarning  = "warning"
	severityCritical = "critical"
	// hbonePort is the port of waypoints' own services.
	hbonePort = 15008
	// fewConnections is below which nothing is concluded from requests that nobody tells of.
	fewConnections = 10
	// maxEvidence bounds a finding's evidence.
	maxEvidence = 20
)

// Finding is one finding.
type Finding struct {
	ID       string     `json:"id"`
	Kind     string     `json:"kind"`
	Severity string     `json:"severity"`
	Summary  string     `json:"summary"`
	Subject  Subject    `json:"subject"`
	Service  string     `json:"service,omitempty"`
	Waypoint string     `json:"waypoint,omitempty"`
	Policies []string   `json:"policies,omitempty"`
	Evidence []Evidence `json:"evidence"`
}

// Subject is what a finding is about.
type Subject struct {
	Type      string `json:"type"` // workload, service or ztunnels, which are all of them
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Evidence is what shows it: connections of a client's, or a sentence alone.
type Evidence struct {
	Text        string   `json:"text"`
	Source      *Subject `json:"source,omitempty"`
	Port        uint16   `json:"port,omitempty"`
	Connections uint64   `json:"connections,omitempty"`
}

// Mesh is what findings need to know of the mesh. inventory.Inventory is one.
type Mesh interface {
	Workloads() []*inventory.Workload
	Services() []*mesh.Service
	Ztunnels() []*mesh.Ztunnel
}

// finder looks for findings in a graph of workloads.
type finder struct {
	graph    *graph.Graph
	services map[string]*mesh.Service               // by key; bounded by the mesh's state
	backends map[string][]*inventory.Workload       // of services, by their keys; bounded by the mesh's state
	byName   map[inventory.Name]*inventory.Workload // bounded by the mesh's state
	found    []Finding
}

// Find returns the findings of a graph of workloads, by kind and subject.
func Find(g *graph.Graph, m Mesh) []Finding {
	f := &finder{
		graph: g, services: map[string]*mesh.Service{}, backends: map[string][]*inventory.Workload{}, byName: map[inventory.Name]*inventory.Workload{},
	}
	for _, s := range m.Services() {
		f.services[s.Key()] = s
	}
	for _, w := range m.Workloads() {
		f.byName[w.Name] = w
		keys := map[string]struct{}{}
		for _, pod := range w.Pods {
			for key := range pod.Services {
				keys[key] = struct{}{}
			}
		}
		for key := range keys {
			f.backends[key] = append(f.backends[key], w)
		}
	}
	f.bypassed()
	f.waypoints()
	f.scans()
	f.skew(inventory.SkewOf(m.Ztunnels()))
	slices.SortFunc(f.found, func(a, b Finding) int { return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.ID, b.ID)) })
	return f.found
}

func (f *finder) add(one Finding) {
	one.ID = one.Kind + "/" + one.Subject.Namespace + "/" + one.Subject.Name
	if one.Service != "" {
		one.ID += "/" + one.Service
	}
	f.found = append(f.found, one)
}

// reached is how many connections of an edge reached the server.
func reached(e *graph.Edge) uint64 {
	return e.Counts.Fields[live.Opened] - min(e.Counts.Failed, e.Counts.Fields[live.Opened])
}

// isWaypoint tells of a workload whose pods take HBONE for others.
func isWaypoint(w *inventory.Workload) bool {
	for _, pod := range w.Pods {
		for _, ports := range pod.Services {
			if slices.ContainsFunc(ports, func(p mesh.Port) bool { return p.ServicePort == hbonePort }) {
				return true
			}
		}
	}
	return false
}

// bypassed finds connections that reached a workload without the waypoint of the service that they were for.
func (f *finder) bypassed() {
	type where struct {
		workload inventory.Name
		service  string
	}
	found := map[where]*Finding{}
	for _, e := range f.graph.Edges {
		n := reached(e)
		if e.Waypoint != "" || n == 0 {
			continue
		}
		source, destination := &f.graph.Nodes[e.Source], &f.graph.Nodes[e.Destination]
		w := f.byName[inventory.Name{Namespace: destination.Namespace, Name: destination.Name}]
		if from := f.byName[inventory.Name{Namespace: source.Namespace, Name: source.Name}]; w == nil || isWaypoint(w) || from != nil && isWaypoint(from) {
			continue
		}
		service := f.meant(e, w)
		if service == nil {
			continue
		}
		at := where{w.Name, service.Key()}
		one := found[at]
		if one == nil {
			one = &Finding{
				Kind: Bypassed, Severity: severityWarning, Subject: Subject{"workload", w.Namespace, w.Name.Name}, Service: service.Hostname,
				Waypoint: f.nameOf(service.Waypoint), Policies: f.policiesAt(service), Evidence: []Evidence{},
			}
			found[at] = one
		}
		how := "called the service, but did not go through its waypoint"
		if e.Service == "" {
			how = "called the pods by their addresses"
		}
		one.Evidence = append(one.Evidence, Evidence{Text: how, Source: subjectOf(source), Port: e.Port, Connections: n})
	}
	for _, one := range found {
		slices.SortFunc(one.Evidence, func(a, b Evidence) int {
			return cmp.Or(cmp.Compare(b.Connections, a.Connections), strings.Compare(a.Source.Namespace+"/"+a.Source.Name, b.Source.Namespace+"/"+b.Source.Name), strings.Compare(a.Text, b.Text), cmp.Compare(a.Port, b.Port))
		})
		total := uint64(0)
		for _, e := range one.Evidence {
			total += e.Connections
		}
		one.Summary = fmt.Sprintf("%s reached %s around the waypoint %s, whose L7 policies and routes do not apply to them.",
			plural(total, "connection"), one.Subject.Name, one.Waypoint)
		one.Evidence = one.Evidence[:min(len(one.Evidence), maxEvidence)]
		f.add(*one)
	}
}

// meant is the service with a waypoint that a connection was for: the one that was called, or else one that has the port of the pod.
func (f *finder) meant(e *graph.Edge, w *inventory.Workload) *mesh.Service {
	var found *mesh.Service
	for _, pod := range w.Pods {
		for key, ports := range pod.Services {
			s := f.services[key]
			if s == nil || s.Waypoint == "" || e.Service != "" && e.Service != s.Hostname {
				continue
			}
			// What is on no port of a service's, such as metrics, no waypoint takes.
			on := e.Service != "" || slices.ContainsFunc(ports, func(p mesh.Port) bool { return cmp.Or(p.TargetPort, p.ServicePort) == uint32(e.Port) })
			if on && (found == nil || s.Key() < found.Key()) {
				found = s
			}
		}
	}
	return found
}

// nameOf is "namespace/name" of a waypoint that a service names as "namespace/hostname".
func (f *finder) nameOf(waypoint string) string {
	if s := f.services[waypoint]; s != nil {
		return s.Namespace + "/" + s.Name
	}
	return waypoint
}

// policiesAt are those that a service's waypoint denied by.
func (f *finder) policiesAt(s *mesh.Service) (policies []string) {
	for _, e := range f.graph.Edges {
		if e.Waypoint == "" || e.Service != s.Hostname {
			continue
		}
		for policy := range e.Counts.DeniedBy() {
			if policy != "" && !slices.Contains(policies, policy) {
				policies = append(policies, policy)
			}
		}
	}
	slices.Sort(policies)
	return policies
}

// waypoints finds those that are missing, that see nothing, and that nobody tells of.
func (f *finder) waypoints() {
	users := map[string][]*mesh.Service{}
	for _, s := range f.services {
		if s.Waypoint == "" || !strings.Contains(s.Waypoint, "/") {
			continue
		}
		users[s.Waypoint] = append(users[s.Waypoint], s)
		if f.ready(s.Waypoint) {
			continue
		}
		text := "there is no service of that name"
		if f.services[s.Waypoint] != nil {
			text = "it has no healthy pod"
		}
		f.add(Finding{
			Kind: Missing, Severity: severityCritical, Subject: Subject{"service", s.Namespace, s.Name}, Service: s.Hostname, Waypoint: f.nameOf(s.Waypoint),
			Summary:  fmt.Sprintf("The service %s is to be reached through the waypoint %s, which is not there.", s.Name, f.nameOf(s.Waypoint)),
			Evidence: []Evidence{{Text: text}},
		})
	}
	for _, w := range f.byName {
		if isWaypoint(w) {
			f.waypoint(w, users)
		}
	}
}

// ready tells whether a waypoint has a healthy pod.
func (f *finder) ready(waypoint string) bool {
	return slices.ContainsFunc(f.backends[waypoint], func(w *inventory.Workload) bool {
		return slices.ContainsFunc(w.Pods, func(pod *mesh.Workload) bool { return pod.Healthy })
	})
}

func (f *finder) waypoint(w *inventory.Workload, users map[string][]*mesh.Service) {
	var uses []*mesh.Service
	for _, pod := range w.Pods {
		for key := range pod.Services {
			for _, s := range users[key] {
				if !slices.Contains(uses, s) {
					uses = append(uses, s)
				}
			}
		}
	}
	name := w.Namespace + "/" + w.Name.Name
	var through, http, requests, around uint64
	assigned := false
	for _, e := range f.graph.Edges {
		switch {
		case e.Waypoint == name:
			n := e.Counts.Fields[live.Opened]
			through += n + e.Counts.Fields[live.Requests]
			requests += e.Counts.Fields[live.Requests]
			if e.Protocol == semconv.ProtocolHTTP || e.Protocol == semconv.ProtocolGRPC {
				http += n
			}
		case slices.ContainsFunc(uses, func(s *mesh.Service) bool { return s.Hostname == e.Service }):
			around += reached(e)
		}
	}
	for _, other := range f.byName {
		assigned = assigned || slices.ContainsFunc(other.Pods, func(pod *mesh.Workload) bool { return pod.Waypoint != "" && f.nameOf(pod.Waypoint) == name })
	}
	one := Finding{Severity: severityWarning, Subject: Subject{"workload", w.Namespace, w.Name.Name}, Waypoint: name}
	switch {
	case through == 0 && len(uses) == 0 && !assigned:
		one.Kind, one.Summary = Unused, fmt.Sprintf("No service or workload uses the waypoint %s.", name)
		one.Evidence = []Evidence{{Text: "no service or workload names it as its waypoint"}}
	case through == 0 && around > 0:
		one.Kind = Unused
		one.Summary = fmt.Sprintf("The waypoint %s sees no connection, although %s went to its services.", name, plural(around, "connection"))
		one.Evidence = []Evidence{{Text: "connections to services that have this waypoint", Connections: around}}
	case http >= fewConnections && requests == 0:
		one.Kind = Unobserved
		one.Summary = fmt.Sprintf("%s for HTTP went through the waypoint %s, and nobody tells of a request.", plural(http, "connection"), name)
		one.Evidence = []Evidence{{Text: "no access log, no metrics and no spans tell of requests: turn on the waypoint's access log", Connections: http}}
	default:
		return
	}
	f.add(one)
}

func subjectOf(n *graph.Node) *Subject { return &Subject{n.Type, n.Namespace, n.Name} }

func plural(n uint64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
