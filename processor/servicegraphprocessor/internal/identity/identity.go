// Package identity tells by the mesh's state who wrote applications' spans, and whom these say to have called.
package identity

import (
	"cmp"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/appspan"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// Resolver finds out who wrote spans: by pod, address or name, and from what the spans of others tell.
type Resolver struct {
	names     *naming.Directory
	telemetry *telemetry.Telemetry
	learnt    uint64
}

// NewResolver returns a resolver by a directory.
func NewResolver(names *naming.Directory, t *telemetry.Telemetry) *Resolver {
	return &Resolver{names: names, telemetry: t}
}

// Learnt moves when something was learnt from spans.
func (r *Resolver) Learnt() uint64 { return r.learnt }

// Callee is whom a client called, by its own word.
type Callee struct {
	naming.Identity
	Service *mesh.Service
	Port    uint16 // the target port
}

// Relays are collectors that pass on spans of others: "namespace", or "namespace/workload".
type Relays []string

// Has tells whether a workload is one of them.
func (r Relays) Has(w *mesh.Workload) bool {
	return slices.Contains(r, w.Namespace) || slices.Contains(r, w.Namespace+"/"+w.Owner())
}

// Believed tells whether a sender may have written spans of an origin: one that is a pod of the mesh writes those of its namespace.
// Nothing is known of a sender that is nil.
func Believed(names *naming.Directory, o *appspan.Origin, sender *mesh.Workload) bool {
	if sender == nil {
		return true
	}
	claimed := NewResolver(names, nil).resolve(o).Party.Namespace
	return claimed == "" || claimed == sender.Namespace
}

// Same tells whether two spans are of one pod, as far as that is known, else of one service.
func (r *Resolver) Same(a, b *appspan.Origin) bool {
	if a == b {
		return true
	}
	x, y := r.Of(a), r.Of(b)
	if x.Workload == nil && y.Workload == nil {
		return a.Same(b)
	}
	return x.Party == y.Party && (!x.Exact || !y.Exact || x.Workload == y.Workload)
}

// Learn takes over who wrote spans, as somebody else saw it.
func (r *Resolver) Learn(o *appspan.Origin, w *mesh.Workload) {
	if w != nil && o.Learnt == nil && !r.names.IsWaypoint(w) {
		o.Learnt = w
		r.learnt++
	}
}

// Of names who wrote spans: by pod or address, else by name.
func (r *Resolver) Of(o *appspan.Origin) naming.Identity {
	if version := r.names.Version() + 1; o.Resolved.Version != version || o.Resolved.Learnt != o.Learnt {
		o.Resolved = appspan.Resolution{Identity: r.resolve(o), Version: version, Learnt: o.Learnt}
	}
	return o.Resolved.Identity
}

func (r *Resolver) resolve(o *appspan.Origin) naming.Identity {
	for _, find := range [...]func(*appspan.Origin) *mesh.Workload{r.byPod, r.byHost} {
		if w := find(o); w != nil {
			return naming.IdentityOf(w)
		}
	}
	id, named := r.byName(o)
	switch {
	case o.Learnt != nil && (!named || o.Learnt.Namespace == id.Party.Namespace && o.Learnt.App() == id.Party.App):
		return naming.IdentityOf(o.Learnt)
	case named:
		return id
	}
	party := edge.Party{Workload: o.Name(), Namespace: o.AnyNamespace(), App: o.Service}
	if o.Nameless() {
		party = edge.Party{Workload: naming.Unknown}
	}
	return naming.Identity{Party: party}
}

func (r *Resolver) byPod(o *appspan.Origin) *mesh.Workload {
	if w := r.names.Pod(o.AnyNamespace(), o.Pod); w != nil {
		return w
	}
	if w := r.names.Holder(o.PodIP); w != nil {
		return w
	}
	if o.Pod != "" && o.Namespace == "" {
		return r.names.Spoken.Pod(o.Pod)
	}
	return nil
}

// byHost finds a pod by its host's name or address. The host may be its node, which no pod is called by.
func (r *Resolver) byHost(o *appspan.Origin) *mesh.Workload {
	for _, host := range o.Hosts {
		if w := r.names.Pod(o.AnyNamespace(), host); w != nil {
			return w
		}
		if w := r.names.Spoken.Pod(host); w != nil && (o.Namespace == "" || o.Namespace == w.Namespace) {
			return w
		}
	}
	for _, addr := range o.Addresses {
		if w := r.names.Holder(addr); w != nil {
			return w
		}
	}
	return nil
}

// byName finds a party by what it calls itself. The namespace of Kubernetes is meant as it is said; that of the service may be one
// of the mesh's, or something else.
func (r *Resolver) byName(o *appspan.Origin) (naming.Identity, bool) {
	for _, name := range [...]string{o.Workload, o.Service} {
		if name == "" {
			continue
		}
		if id, ok := r.names.Spoken.Named(name, o.AnyNamespace(), o.Version, o.Cluster); ok || o.Namespace != "" {
			if ok {
				return id, true
			}
			continue
		}
		if id, ok := r.names.Spoken.Named(name, "", o.Version, o.Cluster); ok {
			return id, true
		}
		if short, namespace, ok := strings.Cut(name, "."); ok {
			if id, ok := r.names.Spoken.Named(short, namespace, o.Version, o.Cluster); ok {
				return id, true
			}
		}
	}
	return naming.Identity{}, false
}

// MayAppear tells whether a span's writer may be named later by the mesh's state.
func (r *Resolver) MayAppear(o *appspan.Origin, now pcommon.Timestamp) bool {
	if !r.names.Known() {
		return !r.names.Meshless(now)
	}
	return o.Pod != "" || !r.names.Spoken.Whole(now)
}

// NamespaceOf is the namespace in which a client's short names are looked up.
func (r *Resolver) NamespaceOf(o *appspan.Origin) string {
	if o == nil {
		return ""
	}
	if id := r.Of(o); id.Workload != nil {
		return id.Party.Namespace
	}
	return o.Namespace
}

// ServiceCalled finds the service that a client addressed, nil if it is none of the mesh.
func (r *Resolver) ServiceCalled(o *appspan.Origin, call *appspan.Call) *mesh.Service {
	if service := r.names.Called(call.Addr); service != nil || call.Host == "" {
		return service
	}
	service, _ := r.names.Spoken.Called(call.Host, r.NamespaceOf(o))
	return service
}

// Callee names whom a client called. What is not of the mesh is a party outside it, by its host name, else by its address, else by
// what the client calls it; false if the client says nothing.
func (r *Resolver) Callee(p *appspan.Peer, namespace string) (Callee, bool) {
	if !p.Known() {
		return Callee{}, false
	}
	service, pod := r.names.Called(p.Addr), r.names.Holder(p.Addr)
	if service == nil && p.Host != "" {
		var named *mesh.Workload
		service, named = r.names.Spoken.Called(p.Host, namespace)
		pod = cmp.Or(pod, named)
	}
	switch {
	case pod != nil && !r.names.IsWaypoint(pod):
		to := Callee{Identity: naming.IdentityOf(pod), Port: p.Port}
		if service != nil {
			if _, offered := pod.Services[service.Key()]; offered {
				to.Service, to.Port = service, naming.ServicePort(pod, service.Key(), uint32(p.Port))
			}
		}
		return to, true
	case service != nil:
		party, port := r.names.ServiceParty(service, p.Port)
		return Callee{Identity: naming.Identity{Party: party, Workload: r.names.Spoken.Backend(service)}, Service: service, Port: port}, true
	}
	if p.Service != "" {
		id, ok := r.names.Spoken.Named(p.Service, namespace, "", "")
		if !ok {
			id, ok = r.names.Spoken.Named(p.Service, "", "", "")
		}
		if ok {
			return Callee{Identity: id, Port: p.Port}, true
		}
	}
	name := cmp.Or(p.Host, p.Service)
	if p.Host == "" && p.Addr.IsValid() {
		name = p.Addr.String()
	}
	return Callee{Identity: naming.Identity{Party: r.Outside(name)}, Port: p.Port}, true
}

// Outside names a party outside the mesh.
func (r *Resolver) Outside(name string) edge.Party {
	party, ok := r.names.Externals.Name(name)
	if !ok {
		r.telemetry.Overflowed(telemetry.BoundExternal)
	}
	return party
}
