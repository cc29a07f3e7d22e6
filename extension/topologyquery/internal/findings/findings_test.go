package findings

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/mesh"
)

const (
	catalogHost  = "catalog.shop.svc.cluster.local"
	waypointHost = "waypoint.shop.svc.cluster.local"
)

// fake is a mesh of web, catalog with a waypoint, and the waypoint.
type fake struct {
	ztunnels  []*mesh.Ztunnel
	workloads []*inventory.Workload
	services  []*mesh.Service
}

func (f *fake) Workloads() []*inventory.Workload { return f.workloads }
func (f *fake) Ztunnels() []*mesh.Ztunnel        { return f.ztunnels }
func (f *fake) Services() []*mesh.Service        { return f.services }

func workload(name string, services map[string][]mesh.Port) *inventory.Workload {
	return &inventory.Workload{
		Name: inventory.Name{Namespace: "shop", Name: name},
		Pods: []*mesh.Workload{{Name: name + "-1", Namespace: "shop", Services: services, Healthy: true}},
	}
}

func newMesh() *fake {
	return &fake{
		workloads: []*inventory.Workload{
			workload("web", nil),
			workload("catalog", map[string][]mesh.Port{"shop/" + catalogHost: {{ServicePort: 80, TargetPort: 8080}}}),
			workload("waypoint", map[string][]mesh.Port{"shop/" + waypointHost: {{ServicePort: 15021}, {ServicePort: 15008}}}),
		},
		services: []*mesh.Service{
			{Name: "catalog", Namespace: "shop", Hostname: catalogHost, Waypoint: "shop/" + waypointHost},
			{Name: "waypoint", Namespace: "shop", Hostname: waypointHost},
		},
	}
}

// edge is n connections, of which some failed, and requests.
type edge struct {
	from, to, service, waypoint, protocol string
	port                                  uint16
	opened, failed, requests              uint64
	policy                                string
}

func graphOf(edges ...edge) *graph.Graph {
	g := &graph.Graph{}
	index := map[string]int{}
	node := func(name string) int {
		if at, ok := index[name]; ok {
			return at
		}
		index[name] = len(g.Nodes)
		g.Nodes = append(g.Nodes, graph.Node{Type: "workload", Namespace: "shop", Name: name})
		return index[name]
	}
	for _, e := range edges {
		counts := &live.Counts{Failed: e.failed}
		counts.Fields[live.Opened], counts.Fields[live.Requests] = e.opened, e.requests
		if e.policy != "" {
			counts.Reasons = []live.ReasonCount{{Reason: live.Reason{Policy: e.policy}, Count: 1}}
		}
		g.Edges = append(g.Edges, &graph.Edge{
			Source: node(e.from), Destination: node(e.to), Service: e.service, Port: e.port, Protocol: e.protocol, Waypoint: e.waypoint, Counts: counts,
		})
	}
	return g
}

var healthy = edge{from: "web", to: "catalog", service: catalogHost, waypoint: "shop/waypoint", protocol: "http", port: 80, opened: 50, requests: 500, policy: "shop/no-get"}

func TestNothingToFind(t *testing.T) {
	for name, also := range map[string][]edge{
		"all goes through":      {},
		"metrics are scraped":   {{from: "prometheus", to: "catalog", port: 9090, opened: 9}},
		"the waypoint's own":    {{from: "waypoint", to: "catalog", port: 8080, opened: 9}},
		"nobody got there":      {{from: "job", to: "catalog", port: 8080, opened: 9, failed: 9}},
		"to the waypoint":       {{from: "web", to: "waypoint", port: 15021, opened: 9}},
		"of nobody in the mesh": {{from: "web", to: "10.9.9.9", port: 443, opened: 9}},
	} {
		assert.Empty(t, Find(graphOf(append(also, healthy)...), newMesh()), name)
	}
}

func TestBypassed(t *testing.T) {
	found := Find(graphOf(
		healthy,
		edge{from: "job", to: "catalog", port: 8080, opened: 12, failed: 2},
		edge{from: "legacy", to: "catalog", service: catalogHost, port: 80, opened: 30},
	), newMesh())
	require.Len(t, found, 1)
	assert.Equal(t, Finding{
		ID: "waypoint_bypassed/shop/catalog/" + catalogHost, Kind: Bypassed, Severity: "warning",
		Summary: "40 connections reached catalog around the waypoint shop/waypoint, whose L7 policies and routes do not apply to them.",
		Subject: Subject{"workload", "shop", "catalog"}, Service: catalogHost, Waypoint: "shop/waypoint", Policies: []string{"shop/no-get"},
		Evidence: []Evidence{
			{Text: "called the service, but did not go through its waypoint", Source: &Subject{"workload", "shop", "legacy"}, Port: 80, Connections: 30},
			{Text: "called the pods by their addresses", Source: &Subject{"workload", "shop", "job"}, Port: 8080, Connections: 10},
		},
	}, found[0])
}

func kinds(found []Finding) (kinds []string) {
	for _, one := range found {
		kinds = append(kinds, one.Kind+" "+one.Subject.Name)
	}
	return kinds
}

func TestWaypoints(t *testing.T) {
	m := newMesh()
	m.workloads[2].Pods[0].Healthy = false
	assert.Equal(t, []string{"waypoint_missing catalog"}, kinds(Find(graphOf(healthy), m)), "no healthy pod")
	m = newMesh()
	m.workloads, m.services = m.workloads[:2], m.services[:1]
	assert.Equal(t, []string{"waypoint_missing catalog"}, kinds(Find(graphOf(), m)), "no such waypoint")
	m = newMesh()
	m.services[0].Waypoint = ""
	assert.Equal(t, []string{"waypoint_unused waypoint"}, kinds(Find(graphOf(), m)), "nobody uses it")
	m.workloads[0].Pods[0].Waypoint = "shop/" + waypointHost
	assert.Empty(t, Find(graphOf(), m), "a workload uses it")
	around := edge{from: "web", to: "catalog", service: catalogHost, port: 80, opened: 30}
	assert.Equal(t, []string{"waypoint_bypassed catalog", "waypoint_unused waypoint"}, kinds(Find(graphOf(around), newMesh())))
	silent := healthy
	silent.requests = 0
	assert.Equal(t, []string{"requests_not_seen waypoint"}, kinds(Find(graphOf(silent), newMesh())))
	silent.protocol = "tcp"
	assert.Empty(t, Find(graphOf(silent), newMesh()), "TCP has no requests")
}

func TestPortScans(t *testing.T) {
	var edges []edge
	for port := range 256 {
		edges = append(edges, edge{from: "web", to: "db", port: uint16(port + 1), opened: 1, failed: 1})
	}
	edges = append(edges, edge{from: "web", to: "db", opened: 60_000, failed: 59_999}, edge{from: "web", to: "cache", port: 6379, opened: 100_000})
	var found []Finding
	for _, one := range Find(graphOf(edges...), newMesh()) {
		if one.Kind == PortScan {
			found = append(found, one)
		}
	}
	require.Len(t, found, 1)
	assert.Equal(t, "web tried more than 256 ports of db: 60256 connections, of which 60255 failed.", found[0].Summary)
	assert.Equal(t, "web", found[0].Subject.Name)
}

// TestSkew finds ztunnels that are not as others are.
func TestSkew(t *testing.T) {
	m := newMesh()
	m.ztunnels = []*mesh.Ztunnel{
		{Node: "a", Version: "1.31.0", Settings: map[string]string{"dnsProxy": "true", "crlPath": ""}},
		{Node: "b", Version: "1.31.0", Settings: map[string]string{"dnsProxy": "true", "crlPath": ""}},
		{Node: "c", Version: "1.30.2", Settings: map[string]string{"dnsProxy": "true", "crlPath": "/crl.pem"}},
		{Node: "d"}, // without a config dump
		{Node: "e", ClusterID: "west", Version: "1.31.0", Settings: map[string]string{"dnsProxy": "false", "crlPath": ""}},
	}
	var found []Finding
	for _, one := range Find(&graph.Graph{}, m) {
		if one.Subject.Type == "ztunnels" {
			found = append(found, one)
		}
	}
	require.Len(t, found, 2)
	assert.Equal(t, Finding{
		ID: "settings_differ//", Kind: SettingsDiffer, Severity: "warning", Subject: Subject{Type: "ztunnels"}, Summary: "The ztunnels differ in 1 setting.",
		Evidence: []Evidence{{Text: `crlPath "" on a, b`}, {Text: `crlPath "/crl.pem" on c`}},
	}, found[0])
	assert.Equal(t, "The ztunnels are of 2 versions.", found[1].Summary)
	assert.Equal(t, []Evidence{{Text: `version "1.31.0" on a, b, e`}, {Text: `version "1.30.2" on c`}}, found[1].Evidence)
}
