package xds

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"google.golang.org/protobuf/proto"
	"istio.io/istio/pkg/workloadapi"
	"istio.io/istio/pkg/workloadapi/security"

	"github.com/nephilia/nephilia/internal/mesh"
)

// The resource types that make up a mesh's state.
const (
	AddressType       = "type.googleapis.com/istio.workload.Address"
	AuthorizationType = "type.googleapis.com/istio.security.Authorization"
)

// Types are the resource types that a Mesh understands.
func Types() []string { return []string{AddressType, AuthorizationType} }

// Bounds on what a response may make a Mesh hold.
const (
	DefaultMaxResources = 200_000
	maxResourceBytes    = 1 << 20
	maxErrorsNamed      = 5
)

// Stats counts what a Mesh has seen since it was made.
type Stats struct {
	Responses uint64
	// Rejected resources could not be read; the previous state of each was kept.
	Rejected uint64
	// Overflowed resources were left out because the bound on resources was reached.
	Overflowed uint64
	// UnknownTypes are responses of a type that was not asked for.
	UnknownTypes uint64
	// Vanished resources were deleted because a new stream's first response no longer held them.
	Vanished uint64
}

// Mesh follows delta responses and says what they change. It is not safe for use by several goroutines.
type Mesh struct {
	limit int
	held  map[string]map[string]resource // by type URL, then by resource name; bounded by limit
	first map[string]firstResponse       // of a stream that has not answered yet, by type URL; bounded by the types asked for
	count int
	stats Stats
}

type resource struct {
	version string
	entity  mesh.Entity
}

type firstResponse struct{ complete bool }

// NewMesh returns an empty mesh that holds at most maxResources resources; 0 means DefaultMaxResources.
func NewMesh(maxResources int) *Mesh {
	if maxResources <= 0 {
		maxResources = DefaultMaxResources
	}
	m := &Mesh{limit: maxResources, held: map[string]map[string]resource{}, first: map[string]firstResponse{}}
	for _, typeURL := range Types() {
		m.held[typeURL] = map[string]resource{}
	}
	return m
}

// Apply takes over one response and returns what it changes: nothing for what is already known. Resources that cannot
// be read leave their previous state in place and are named in the error (a *RejectedError, the text of a NACK);
// the events are valid in any case.
func (m *Mesh) Apply(response *discoveryv3.DeltaDiscoveryResponse, at time.Time) ([]mesh.Event, error) {
	m.stats.Responses++
	held, known := m.held[response.GetTypeUrl()]
	if !known {
		m.stats.UnknownTypes++
		return nil, fmt.Errorf("response of unknown type %.128q", response.GetTypeUrl())
	}
	var (
		when     = pcommon.NewTimestampFromTime(at)
		events   []mesh.Event
		rejected RejectedError
		resent   bool
		first    = m.takeFirst(response.GetTypeUrl())
		listed   map[string]struct{}
	)
	if first != nil {
		listed = make(map[string]struct{}, len(response.GetResources()))
	}
	for _, r := range response.GetResources() {
		name := r.GetName()
		previous, had := held[name]
		if listed != nil {
			listed[name] = struct{}{}
			resent = resent || had && previous.version == r.GetVersion()
		}
		entity, err := decode(response.GetTypeUrl(), r)
		if err != nil {
			m.stats.Rejected++
			rejected.add(name, err)
			if had {
				// Without a version the server sends it again on the next stream.
				previous.version = ""
				held[name] = previous
			}
			continue
		}
		if !had {
			if m.count >= m.limit {
				m.stats.Overflowed++
				continue
			}
			m.count++
		}
		held[name] = resource{version: r.GetVersion(), entity: entity}
		if synthetic(entity) || had && reflect.DeepEqual(previous.entity, entity) {
			continue
		}
		if had && (previous.entity.Key() != entity.Key() || previous.entity.Type() != entity.Type()) {
			events = append(events, mesh.Event{Time: when, Entity: previous.entity, Deleted: true})
		}
		events = append(events, mesh.Event{Time: when, Entity: entity})
	}
	for _, name := range response.GetRemovedResources() {
		events = m.remove(held, name, when, events)
	}
	if first != nil && (first.complete || resent || versionless(held)) {
		for _, name := range vanished(held, listed) {
			m.stats.Vanished++
			events = m.remove(held, name, when, events)
		}
	}
	if rejected.Count > 0 {
		return events, &rejected
	}
	return events, nil
}

// NewStream tells that the next response of the type is the first of a new stream. What the mesh holds and that
// response no longer lists has vanished meanwhile, provided that the response lists everything: because the client
// told no versions (complete), or because the server visibly sends again what it was told is known, or because the
// resources have no versions to tell. Otherwise removals are the server's to state, as the protocol says and istiod does.
func (m *Mesh) NewStream(typeURL string, complete bool) {
	m.first[typeURL] = firstResponse{complete: complete}
}

// Versions are the versions of the resources held of a type, by resource name: initial_resource_versions of a new stream.
func (m *Mesh) Versions(typeURL string) map[string]string {
	held := m.held[typeURL]
	versions := make(map[string]string, len(held))
	for name, r := range held {
		versions[name] = r.version
	}
	return versions
}

// Snapshot is the whole state as events, ordered by type and key.
func (m *Mesh) Snapshot(at time.Time) []mesh.Event {
	events := make([]mesh.Event, 0, m.count)
	when := pcommon.NewTimestampFromTime(at)
	for _, typeURL := range Types() {
		held := m.held[typeURL]
		for _, name := range sortedNames(held) {
			if synthetic(held[name].entity) {
				continue
			}
			events = append(events, mesh.Event{Time: when, Entity: held[name].entity})
		}
	}
	return events
}

// Len is the number of resources held.
func (m *Mesh) Len() int { return m.count }

// Stats counts what happened so far.
func (m *Mesh) Stats() Stats { return m.stats }

func (m *Mesh) takeFirst(typeURL string) *firstResponse {
	first, ok := m.first[typeURL]
	if !ok {
		return nil
	}
	delete(m.first, typeURL)
	return &first
}

func (m *Mesh) remove(held map[string]resource, name string, when pcommon.Timestamp, events []mesh.Event) []mesh.Event {
	r, had := held[name]
	if !had {
		return events
	}
	delete(held, name)
	m.count--
	if synthetic(r.entity) {
		return events
	}
	return append(events, mesh.Event{Time: when, Entity: r.entity, Deleted: true})
}

// synthetic tells whether an entity is no more than istiod's way to reach another network. It is held, since istiod tells of it
// by versions, and not passed on.
func synthetic(entity mesh.Entity) bool { return mesh.Synthetic(entity.Key()) }

func versionless(held map[string]resource) bool {
	for _, r := range held {
		if r.version != "" {
			return false
		}
	}
	return true
}

func vanished(held map[string]resource, listed map[string]struct{}) []string {
	var names []string
	for name := range held {
		if _, ok := listed[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func sortedNames(held map[string]resource) []string {
	names := make([]string, 0, len(held))
	for name := range held {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func decode(typeURL string, r *discoveryv3.Resource) (mesh.Entity, error) {
	if len(r.GetName()) > maxNameLength {
		return nil, fmt.Errorf("resource name of %d bytes", len(r.GetName()))
	}
	payload := r.GetResource()
	if payload == nil {
		return nil, errors.New("resource without payload")
	}
	if payload.GetTypeUrl() != typeURL {
		return nil, fmt.Errorf("payload of type %.128q", payload.GetTypeUrl())
	}
	if size := len(payload.GetValue()); size > maxResourceBytes {
		return nil, fmt.Errorf("payload of %d bytes", size)
	}
	entity, err := decodePayload(typeURL, payload.GetValue())
	if err != nil {
		return nil, err
	}
	// A removal names the resource only, so that the name must be the entity's key.
	if entity.Key() != r.GetName() {
		return nil, fmt.Errorf("%s has the key %.128q", entity.Type(), entity.Key())
	}
	return entity, nil
}

func decodePayload(typeURL string, raw []byte) (mesh.Entity, error) {
	if typeURL == AuthorizationType {
		var a security.Authorization
		if err := proto.Unmarshal(raw, &a); err != nil {
			return nil, fmt.Errorf("decoding policy: %w", err)
		}
		return orNil(policy(&a))
	}
	var a workloadapi.Address
	if err := proto.Unmarshal(raw, &a); err != nil {
		return nil, fmt.Errorf("decoding address: %w", err)
	}
	switch kind := a.GetType().(type) {
	case *workloadapi.Address_Workload:
		return orNil(workload(kind.Workload))
	case *workloadapi.Address_Service:
		return orNil(service(kind.Service))
	}
	return nil, errors.New("address is neither workload nor service")
}

func orNil[E mesh.Entity](entity E, err error) (mesh.Entity, error) {
	if err != nil {
		return nil, err
	}
	return entity, nil
}

// RejectedError names resources of a response that could not be read.
type RejectedError struct {
	Count  int
	Named  []string // at most a handful
	Causes []error  // of those named
}

func (e *RejectedError) add(name string, err error) {
	e.Count++
	if len(e.Named) < maxErrorsNamed {
		e.Named = append(e.Named, name)
		e.Causes = append(e.Causes, err)
	}
}

// Error implements error.
func (e *RejectedError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d resources rejected", e.Count)
	for i, name := range e.Named {
		fmt.Fprintf(&text, "; %.128q: %v", name, e.Causes[i])
	}
	return text.String()
}

// Unwrap gives the named resources' errors.
func (e *RejectedError) Unwrap() []error { return e.Causes }
