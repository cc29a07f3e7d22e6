package httpapi

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/proxies"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/nodeload"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Whether a ztunnel carries a pod's traffic.
const (
	captured       = "captured"
	capturePending = "pending"
	notCaptured    = "not_captured"
	captureUnknown = "unknown"
)

// nodeProxies is what ztunnels say of themselves. proxies.Table is one.
type nodeProxies interface {
	Load(node string) (load nodeload.Load, ok bool)
	Past(node string, start, end pcommon.Timestamp) []nodeload.Load
	Events(node string) []proxies.Event
	Waits(node, uid string, now pcommon.Timestamp) string
	Unenrolled(node, namespace, pod string, now pcommon.Timestamp) string
}

// pastNames answers for the names that were asked for. history.Store is one.
type pastNames interface {
	// Names is what was asked in [start, end), in unix milliseconds, on nodes that are accepted, by series with these labels.
	Names(ctx context.Context, start, end int64, accept func(node string) bool, labels ...string) (history.Asked, error)
}

// capture tells whether a pod's traffic is carried by its node's ztunnel, and why not. The lines of attempts say what is true now; a
// config dump and the count of pending proxies may be stale, and only together are believed.
func (s *pods) capture(pod *mesh.Workload, z *mesh.Ztunnel) (state, detail string) {
	now := pcommon.Timestamp(s.ranges.now()) * 1e6
	if text := s.proxies.Unenrolled(pod.Node, pod.Namespace, pod.Name, now); text != "" {
		return capturePending, text
	}
	if !pod.InMesh() {
		return notCaptured, "It is not part of the mesh."
	}
	key := pod.Namespace + "/" + pod.Name
	if z != nil {
		for uid, known := range z.PodUIDs {
			if known != key {
				continue
			}
			if text := s.proxies.Waits(pod.Node, uid, now); text != "" {
				return capturePending, text
			}
		}
	}
	load, scraped := s.proxies.Load(pod.Node)
	switch {
	case z == nil:
		return captureUnknown, "No config dump of its node's ztunnel is known."
	case z.Workloads[key] == "":
		return notCaptured, "Its node's ztunnel does not know it."
	case z.Workloads[key] == mesh.ProxyPending && (!scraped || load.Pending > 0):
		return capturePending, "Its node's ztunnel could not set up its proxy."
	}
	return captured, ""
}

// ztunnelBody is what a node's ztunnel says of itself.
type ztunnelBody struct {
	Name string    `json:"name"`
	Load *loadBody `json:"load"`
	// Past is how busy it was in the range, at most for the last hour, the oldest first.
	Past []pastLoad `json:"load_history"`
	// Events are what it logged beside connections, the newest first.
	Events    []proxies.Event `json:"events"`
	Resolvers []string        `json:"resolvers"`
	// Settings are those that are to be the same on all nodes, as the newest config dump tells.
	Settings map[string]string `json:"settings"`
	// LogLevel is the level from which on it logs, as far as its log shows: info or warn; empty where that is not read.
	LogLevel string `json:"log_level"`
	// Revocation is what came of the list of revoked certificates; null where it is not scraped.
	Revocation *revocationBody `json:"revocation"`
}

// revocationBody counts since the ztunnel's start.
type revocationBody struct {
	Rejected  sidesBody `json:"rejected"`
	Untracked sidesBody `json:"untracked"`
	// Last is when connections were rejected last; null where none were since it is scraped.
	Last *time.Time `json:"last_rejected"`
}

type sidesBody struct {
	Inbound  uint64 `json:"inbound"`
	Outbound uint64 `json:"outbound"`
}

type loadBody struct {
	At time.Time `json:"at"`
	// Busy is the share of its threads' time in which they were busy, Parks how often a second they had nothing to do; null before two scrapes.
	Busy    *float64    `json:"busy"`
	Parks   *float64    `json:"parks_per_second"`
	Workers uint64      `json:"workers"`
	Tasks   uint64      `json:"tasks"`
	Sockets socketsBody `json:"sockets"`
	Files   filesBody   `json:"file_descriptors"`
	Proxies proxiesBody `json:"proxies"`
}

// pastLoad is the load at a time: what changes of it.
type pastLoad struct {
	At      time.Time   `json:"at"`
	Busy    *float64    `json:"busy"`
	Parks   *float64    `json:"parks_per_second"`
	Sockets socketsBody `json:"sockets"`
	Files   uint64      `json:"open_files"`
}

type socketsBody struct {
	Outbound uint64 `json:"outbound"`
	Inbound  uint64 `json:"inbound"`
}

type filesBody struct {
	Open uint64 `json:"open"`
	Max  uint64 `json:"max"`
}

type proxiesBody struct {
	Active  uint64 `json:"active"`
	Pending uint64 `json:"pending"`
	Started uint64 `json:"started"`
	Stopped uint64 `json:"stopped"`
}

func newZtunnelBody(all nodeProxies, node string, z *mesh.Ztunnel, in window) ztunnelBody {
	body := ztunnelBody{Events: all.Events(node), Resolvers: []string{}, Settings: map[string]string{}, Past: []pastLoad{}}
	for _, l := range all.Past(node, pcommon.Timestamp(in.start)*1e6, pcommon.Timestamp(in.end)*1e6) {
		one := pastLoad{At: l.At.AsTime(), Sockets: socketsBody{l.Outbound, l.Inbound}, Files: l.Files}
		if l.Since > 0 {
			one.Busy, one.Parks = &l.Busy, &l.Parks
		}
		body.Past = append(body.Past, one)
	}
	if z != nil {
		body.Name = z.Name
		body.Resolvers = append(body.Resolvers, z.Resolvers...)
		maps.Copy(body.Settings, z.Settings)
	}
	load, ok := all.Load(node)
	if !ok {
		return body
	}
	body.Load = &loadBody{
		At: load.At.AsTime(), Workers: load.Workers, Tasks: load.Tasks, Sockets: socketsBody{load.Outbound, load.Inbound},
		Files: filesBody{load.Files, load.MaxFiles}, Proxies: proxiesBody(load.Proxies),
	}
	if load.Since > 0 {
		body.Load.Busy, body.Load.Parks = &load.Busy, &load.Parks
	}
	r := &load.Revocation
	body.Revocation = &revocationBody{Rejected: sidesBody(r.Rejected), Untracked: sidesBody(r.Untracked)}
	if r.Last > 0 {
		last := r.Last.AsTime()
		body.Revocation.Last = &last
	}
	return body
}

// workloadNames is what a workload asked for. What its ztunnels' counters do not tell apart from others of the same canonical name is
// said to be shared, and with whom.
type workloadNames struct {
	history.Asked
	Shared *sharedNames `json:"shared,omitempty"`
}

type sharedNames struct {
	Queries   uint64     `json:"queries"`
	Forwarded uint64     `json:"forwarded"`
	Failed    uint64     `json:"failed"`
	With      []nameBody `json:"with"`
}

func anyNode(string) bool { return true }

func namesOf(ctx context.Context, past pastNames, w *inventory.Workload, all []*inventory.Workload, in window) (*workloadNames, error) {
	asked, err := past.Names(ctx, in.start, in.end, anyNode, semconv.LabelSourceNamespace, w.Namespace, semconv.LabelSourceWorkload, w.Name.Name)
	if err != nil {
		return nil, unavailable(err)
	}
	body := &workloadNames{Asked: asked}
	nodes := map[string]bool{}
	for _, pod := range w.Pods {
		nodes[pod.Node] = true
	}
	var with []nameBody
	for _, other := range all {
		if other.App == w.App && other.Version == w.Version && other.Name != w.Name &&
			slices.ContainsFunc(other.Pods, func(pod *mesh.Workload) bool { return nodes[pod.Node] }) {
			with = append(with, nameBody{other.Namespace, other.Name.Name})
		}
	}
	if len(with) == 0 {
		return body, nil
	}
	shared, err := past.Names(ctx, in.start, in.end, func(node string) bool { return nodes[node] },
		semconv.LabelSourceNamespace, "", semconv.LabelSourceCanonicalService, w.App, semconv.LabelSourceCanonicalRevision, w.Version)
	if err != nil {
		return nil, unavailable(err)
	}
	slices.SortFunc(with, func(a, b nameBody) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	body.Shared = &sharedNames{shared.Queries, shared.Forwarded, shared.Failed, with}
	return body, nil
}
