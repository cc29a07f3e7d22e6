package flows

import (
	"cmp"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// mappedPrefix begins an IPv4 address as a socket of both families has it.
const mappedPrefix = "::ffff:"

// who is who the ends of a pair are.
type who struct {
	clusters, addresses [2]string
	parties             [2]edge.Party
	servers             servers
	// The rest is as of a version of the names.
	version  uint64
	resolved bool
	pods     [2]*mesh.Workload
	called   *mesh.Service // which the destination's address is the virtual one of
	port     uint16        // at the destination
	endpoint *edges.Endpoint
}

// resolver names the ends of pairs.
type resolver struct {
	hold      time.Duration // how long traffic of a pod waits for the mesh state that names it
	names     *naming.Directory
	store     *edges.Store
	telemetry *telemetry.Telemetry
}

// identify tells to which pair a flow series belongs at a time, and whether that may change: an end is not a pod that the mesh's
// state knows by name.
func (r *resolver) identify(key *flowKey, at pcommon.Timestamp) (id pairKey, loose bool) {
	if key.overflow {
		return pairKey{port: key.port, overflow: true}, false
	}
	source, destination := r.names.Pod(key.sourceNamespace, key.sourcePod), r.names.Pod(key.destinationNamespace, key.destinationPod)
	id = pairKey{
		source:      r.endOf(key.node, key.sourceNamespace, key.sourcePod, key.sourceAddress, at),
		destination: r.endOf(key.node, key.destinationNamespace, key.destinationPod, key.destinationAddress, at),
		port:        key.port,
	}
	if mesh.Synthetic(key.destinationPod) {
		id.destination = end{address: key.destinationAddress}
	}
	switch client := r.clientOf(key, source, id.source); {
	case key.side == byDestination && client.isApp():
		id.source = client
		if key.service != "" {
			id.destination = end{address: key.service}
			if destination != nil {
				id.port = naming.CalledPort(destination, key.service, key.port)
			}
		}
	case key.side == bySource && key.service != "" && (mesh.Synthetic(key.destinationPod) || r.names.Clients.Crosses(key.node, destination, key.service)):
		id.destination = end{address: key.service}
		if source != nil {
			id.source = end{namespace: source.Namespace, address: source.App()}
		}
	}
	return id, source == nil || destination == nil || key.principal != ""
}

// clientOf is the app that a client is of which a server's ztunnel knows no pod, but a name or an identity. No end if there is none.
func (r *resolver) clientOf(key *flowKey, named *mesh.Workload, found end) end {
	if key.side != byDestination || key.overflow {
		return end{}
	}
	if key.principal == "" {
		if named != nil || key.sourcePod == "" {
			return end{}
		}
		if app := r.names.Clients.AppNamed(key.sourceNamespace, key.sourcePod); app != "" {
			return end{namespace: key.sourceNamespace, address: app}
		}
		return end{}
	}
	if named == nil {
		named = r.names.Pod(found.namespace, found.pod)
	}
	namespace, account, ok := naming.ParsePrincipal(key.principal)
	if !ok || named != nil && named.Namespace == namespace && named.ServiceAccount == account {
		return end{}
	}
	if app := r.names.Clients.AppNamed(namespace, key.sourcePod); app != "" && key.sourceNamespace == namespace {
		return end{namespace: namespace, address: app}
	}
	if namespace, app := r.names.Clients.AppOf(key.principal); app != "" {
		return end{namespace: namespace, address: app}
	}
	return end{}
}

// moved tells whether a series belongs to another pair by now, and to which.
func (r *resolver) moved(s *series, key *flowKey) (id pairKey, moved bool) {
	if !s.loose || key.overflow {
		return id, false
	}
	was := s.pair.key
	id, s.loose = r.identify(key, s.seen)
	if id.source.pod == "" && !id.source.isApp() || was.source.isApp() && !id.source.isApp() {
		id.source = was.source
	}
	if id.destination.pod == "" && id.destination.address != key.service || was.destination.address == key.service && key.service != "" {
		id.destination, id.port = was.destination, was.port
	}
	return id, id != was
}

// endOf names an end by its pod; an early denial is logged with addresses only, which the mesh's state may name.
func (r *resolver) endOf(node, namespace, pod, address string, at pcommon.Timestamp) end {
	if pod != "" {
		return end{pod: pod, namespace: namespace}
	}
	if w := r.names.Holders.At(node, address, at); w != nil {
		return end{pod: w.Name, namespace: w.Namespace}
	}
	return end{address: strings.TrimPrefix(address, mappedPrefix)}
}

// resolve names the pair's ends; false means that it is worth waiting for the mesh's state.
func (r *resolver) resolve(p *pair, m moment.Moment) bool {
	w := &p.who
	if w.resolved && (w.version == r.names.Version() || !r.names.Known()) {
		return true
	}
	ends := [2]end{p.key.source, p.key.destination}
	if p.key.overflow {
		w.resolved, w.version = true, r.names.Version()
		return true
	}
	pods := [2]*mesh.Workload{r.podOf(p, ends[0]), r.podOf(p, ends[1])}
	service := ends[byDestination].address // only where connections cross between networks
	crosses := ends[bySource].isApp() && service != "" && r.names.Service(service) != nil
	if crosses && !p.who.servers.several {
		pods[byDestination] = r.podOf(p, p.who.servers.last)
	}
	named := w.resolved
	if named {
		// Who was known once keeps that name when the mesh's state forgets it, or does not know it yet after a restart.
		pods = [2]*mesh.Workload{cmp.Or(pods[0], w.pods[0]), cmp.Or(pods[1], w.pods[1])}
	} else if !m.Final && r.stateMayBeLate(p.first, m) && (r.mayAppear(pods[0], ends[0], m) || r.mayAppear(pods[1], ends[1], m)) {
		return false
	}
	last := *w
	w.resolved, w.version, w.pods, w.port = true, r.names.Version(), pods, p.key.port
	w.called = r.calledBy(pods[byDestination], ends[byDestination], last.called)
	for by, pod := range pods {
		switch {
		case side(by) == byDestination && w.called != nil:
			w.parties[by], w.port = r.names.ServiceParty(w.called, p.key.port)
		case side(by) == byDestination && crosses && pod != nil:
			w.parties[by], w.port = naming.PartyOf(pod), naming.BackendPort(pod, service, p.key.port)
		case pod != nil || !named || ends[by].isApp():
			w.parties[by] = r.party(pod, ends[by], w.clusters[by])
		}
	}
	if named && last.parties == w.parties && last.port == w.port && sameWorkload(last.pods[0], pods[0]) && sameWorkload(last.pods[1], pods[1]) {
		return true
	}
	w.endpoint = r.endpointOf(p)
	for i := range p.routes {
		r.store.Edges.Clear(&p.routes[i].target)
	}
	return true
}

func sameWorkload(a, b *mesh.Workload) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a == b || naming.PartyOf(a) == naming.PartyOf(b) && a.Node == b.Node && a.Name == b.Name
}

func (r *resolver) podOf(p *pair, e end) *mesh.Workload {
	if e.pod != "" {
		return r.names.Pod(e.namespace, e.pod)
	}
	return r.names.Holders.At(cmp.Or(p.reporters[bySource], p.reporters[byDestination]), e.address, p.seen)
}

// calledBy is the service that an end is if it is no more than a virtual address: the client got no further. A service keeps its
// address when the mesh's state forgets it.
func (r *resolver) calledBy(w *mesh.Workload, e end, last *mesh.Service) *mesh.Service {
	if w != nil || e.pod != "" {
		return nil
	}
	return cmp.Or(r.names.Called(naming.ParseAddr(e.address)), r.names.Service(e.address), last)
}

// stateMayBeLate tells whether the mesh's state may not have said yet what it knows of something that was first seen at a time.
// Whoever was cut off hears of minutes in seconds, but of the mesh's state only once its stream is back.
func (r *resolver) stateMayBeLate(first pcommon.Timestamp, m moment.Moment) bool {
	return m.CatchingUp || !m.Past(first, r.hold)
}

// mayAppear tells whether an end that is not known may be named later: any, as long as nothing is known about the
// mesh; a pod always, because its own event may be on its way. Where no source tells of the mesh nothing will be.
func (r *resolver) mayAppear(w *mesh.Workload, e end, m moment.Moment) bool {
	return w == nil && !r.names.Meshless(m.Now) && (!r.names.Known() || e.pod != "")
}

func (r *resolver) party(w *mesh.Workload, e end, cluster string) edge.Party {
	if w != nil {
		return naming.PartyOf(w)
	}
	if e.pod != "" {
		r.telemetry.Unresolved()
		return edge.Party{Workload: e.pod, Namespace: e.namespace, App: e.pod, Cluster: cluster}
	}
	if e.isApp() {
		return r.names.Clients.Party(e.namespace, e.address, cluster)
	}
	party, ok := r.names.Externals.Name(e.address)
	if !ok {
		r.telemetry.Overflowed(telemetry.BoundExternal)
	}
	return party
}

// endpointOf finds the endpoint of a pair's destination; nil if it is no pod, or the bound on endpoints is reached.
func (r *resolver) endpointOf(p *pair) *edges.Endpoint {
	to := p.key.destination
	switch w := p.who.pods[byDestination]; {
	case w != nil:
		return r.store.Endpoints.OfWorkload(w)
	case to.pod != "":
		return r.store.Endpoints.OfPod(naming.Pod{Namespace: to.namespace, Name: to.pod}, p.who.parties[byDestination], p.reporters[byDestination])
	}
	return nil
}
