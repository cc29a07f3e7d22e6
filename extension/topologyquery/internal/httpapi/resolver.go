package httpapi

import (
	"context"
	"net/netip"
	"slices"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Whether a graph shows who asks the resolver for names.
const (
	dnsHide = "hide"
	// dnsFailing shows it while an outage of names goes on.
	dnsFailing = "failing"
	dnsShow    = "show"
)

// kindDNSSlow is the kind of an outage of names that are resolved late.
const kindDNSSlow = "dns_slow"

// pastAskers tells who asked for names. history.Store is one.
type pastAskers interface {
	Askers(ctx context.Context, start, end int64) ([]*history.Asker, error)
}

// resolverMesh is what is known of the service that ztunnels ask. inventory.Inventory is one.
type resolverMesh interface {
	Workloads() []*inventory.Workload
	Ztunnels() []*mesh.Ztunnel
	VIP(addr netip.Addr) *mesh.Service
}

// resolver is the service that ztunnels ask for the names that they do not know, and the workload behind it.
func resolver(m resolverMesh) (service *mesh.Service, party edge.Party) {
	service = &mesh.Service{Namespace: "kube-system", Name: "kube-dns", Hostname: "kube-dns.kube-system.svc.cluster.local"}
	for _, z := range m.Ztunnels() {
		for _, text := range z.Resolvers {
			if addr, err := netip.ParseAddr(text); err == nil {
				if found := m.VIP(addr); found != nil {
					service = found
				}
			}
		}
	}
	for _, w := range m.Workloads() {
		if slices.ContainsFunc(w.Pods, func(pod *mesh.Workload) bool { return len(pod.Services[service.Key()]) > 0 }) {
			return service, edge.Party{Workload: w.Name.Name, Namespace: w.Namespace, App: w.App, Version: w.Version, Cluster: w.Cluster}
		}
	}
	return service, edge.Party{Workload: service.Name, Namespace: service.Namespace, App: service.Name}
}

// asked is who asked a resolver for names, as a graph's edges.
type asked struct {
	askers  []*history.Asker
	service *mesh.Service
	party   edge.Party
}

// ask finds who asked the resolver in a graph's window, if that is to be shown, and lets the outages of names mark it.
func (s *graphs) ask(ctx context.Context, options *graph.Options, dns string) (*asked, error) {
	if dns == dnsHide || dns == "" {
		return nil, nil
	}
	var a asked
	a.service, a.party = resolver(s.resolver)
	shown := dns == dnsShow
	for i := range options.Outages {
		o := &options.Outages[i]
		if !o.Names {
			continue
		}
		shown = shown || o.IsOpen
		if o.Root == (graph.Root{Namespace: a.service.Namespace, Name: a.service.Name}) {
			edges := slices.Clone(o.Edges)
			for _, e := range o.Edges {
				edges = append(edges, outage.Edge{Source: e.Source, Destination: outage.Name{Namespace: a.party.Namespace, Name: a.party.App}})
			}
			o.Edges = edges
		}
	}
	if !shown {
		return nil, nil
	}
	var err error
	if a.askers, err = s.names.Askers(ctx, options.Start, options.End); err != nil {
		return nil, unavailable(err)
	}
	return &a, nil
}

// addTo adds the edges from workloads to the resolver.
func (a *asked) addTo(b *graph.Builder) {
	if a == nil {
		return
	}
	for _, asker := range a.askers {
		b.Add(&edge.Key{
			Source: asker.Party, Destination: a.party, Service: a.service.Hostname, Port: dnsPort, Protocol: semconv.ProtocolDNS,
			Security: semconv.SecurityNone,
		}, &asker.Counts)
	}
}

const dnsPort = 53
