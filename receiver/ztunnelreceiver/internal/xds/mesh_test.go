package xds

import (
	"fmt"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"istio.io/istio/pkg/workloadapi"
	"istio.io/istio/pkg/workloadapi/security"

	"github.com/nephilia/nephilia/internal/mesh"
)

var at = time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)

func pack(tb testing.TB, name, version string, message proto.Message) *discoveryv3.Resource {
	tb.Helper()
	payload, err := anypb.New(message)
	require.NoError(tb, err)
	return &discoveryv3.Resource{Name: name, Version: version, Resource: payload}
}

func workloadResource(tb testing.TB, uid, version string) *discoveryv3.Resource {
	return pack(tb, uid, version, &workloadapi.Address{Type: &workloadapi.Address_Workload{Workload: &workloadapi.Workload{
		Uid: uid, Name: uid, Namespace: "shop", CanonicalRevision: version, Addresses: [][]byte{{10, 0, 0, 1}},
		TunnelProtocol: workloadapi.TunnelProtocol_HBONE,
	}}})
}

func policyResource(tb testing.TB, name string) *discoveryv3.Resource {
	return pack(tb, "shop/"+name, "", &security.Authorization{Name: name, Namespace: "shop", Scope: security.Scope_NAMESPACE})
}

func addresses(resources ...*discoveryv3.Resource) *discoveryv3.DeltaDiscoveryResponse {
	return &discoveryv3.DeltaDiscoveryResponse{TypeUrl: AddressType, Nonce: "n", Resources: resources}
}

func policies(resources ...*discoveryv3.Resource) *discoveryv3.DeltaDiscoveryResponse {
	return &discoveryv3.DeltaDiscoveryResponse{TypeUrl: AuthorizationType, Nonce: "n", Resources: resources}
}

// describe gives events as "+key" and "-key".
func describe(events []mesh.Event) []string {
	texts := []string{}
	for _, event := range events {
		sign := "+"
		if event.Deleted {
			sign = "-"
		}
		texts = append(texts, sign+event.Entity.Key())
	}
	return texts
}

func apply(tb testing.TB, m *Mesh, response *discoveryv3.DeltaDiscoveryResponse) []string {
	tb.Helper()
	events, err := m.Apply(response, at)
	require.NoError(tb, err)
	return describe(events)
}

func TestApplyChangesAndRemovals(t *testing.T) {
	m := NewMesh(0)
	assert.Equal(t, []string{"+a", "+b"}, apply(t, m, addresses(workloadResource(t, "a", "1"), workloadResource(t, "b", "1"))))
	assert.Empty(t, apply(t, m, addresses(workloadResource(t, "a", "1"))))
	same := workloadResource(t, "a", "1")
	same.Version = "2"
	assert.Empty(t, apply(t, m, addresses(same)), "a new version of the same content is no change")
	assert.Equal(t, "2", m.Versions(AddressType)["a"])
	assert.Equal(t, []string{"+a"}, apply(t, m, addresses(workloadResource(t, "a", "3"))))

	removal := addresses(workloadResource(t, "c", "1"))
	removal.RemovedResources = []string{"a", "unheard-of", "a"}
	assert.Equal(t, []string{"+c", "-a"}, apply(t, m, removal))
	assert.Equal(t, map[string]string{"b": "1", "c": "1"}, m.Versions(AddressType))
	assert.Equal(t, 2, m.Len())
}

func TestApplyKeepsGoodResourcesBesideBadOnes(t *testing.T) {
	m := NewMesh(0)
	apply(t, m, addresses(workloadResource(t, "a", "1"), workloadResource(t, "b", "1")))

	broken := workloadResource(t, "a", "2")
	broken.Resource.Value = []byte{0xff, 0xff, 0xff}
	events, err := m.Apply(addresses(broken, workloadResource(t, "b", "2"), workloadResource(t, "c", "1")), at)
	assert.Equal(t, []string{"+b", "+c"}, describe(events))
	var rejected *RejectedError
	require.ErrorAs(t, err, &rejected)
	assert.Equal(t, []string{"a"}, rejected.Named)
	assert.Equal(t, map[string]string{"a": "", "b": "2", "c": "1"}, m.Versions(AddressType), "what was rejected is asked for again")
	assert.Equal(t, 3, m.Len(), "the rejected one stays as it was")
	assert.EqualValues(t, 1, m.Stats().Rejected)
}

func TestApplyRejects(t *testing.T) {
	ofWorkload := func(w *workloadapi.Workload) proto.Message {
		return &workloadapi.Address{Type: &workloadapi.Address_Workload{Workload: w}}
	}
	ofService := func(s *workloadapi.Service) proto.Message {
		return &workloadapi.Address{Type: &workloadapi.Address_Service{Service: s}}
	}
	long := strings.Repeat("x", maxNameLength+1)
	for name, tc := range map[string]struct {
		resource *discoveryv3.Resource
		want     string
	}{
		"no payload":      {&discoveryv3.Resource{Name: "a"}, "without payload"},
		"nil resource":    {nil, "without payload"},
		"other type":      {pack(t, "a", "", &emptypb.Empty{}), "payload of type"},
		"neither":         {pack(t, "a", "", &workloadapi.Address{}), "neither workload nor service"},
		"no uid":          {pack(t, "a", "", ofWorkload(&workloadapi.Workload{})), "without uid"},
		"other name":      {pack(t, "a", "", ofWorkload(&workloadapi.Workload{Uid: "b"})), "has the key"},
		"long name":       {pack(t, "a", "", ofWorkload(&workloadapi.Workload{Uid: "a", Name: long})), "name of 1537 bytes"},
		"long resource":   {pack(t, long, "", ofWorkload(&workloadapi.Workload{Uid: "a"})), "resource name of"},
		"odd address":     {pack(t, "a", "", ofWorkload(&workloadapi.Workload{Uid: "a", Addresses: [][]byte{{1, 2, 3}}})), "address of 3 bytes"},
		"odd service key": {pack(t, "a", "", ofWorkload(&workloadapi.Workload{Uid: "a", Services: map[string]*workloadapi.PortList{"x": nil}})), "not namespace/hostname"},
		"odd waypoint": {pack(t, "a", "", ofWorkload(&workloadapi.Workload{Uid: "a", Waypoint: &workloadapi.GatewayAddress{
			Destination: &workloadapi.GatewayAddress_Address{Address: &workloadapi.NetworkAddress{}},
		}})), "waypoint: address of 0 bytes"},
		"no hostname": {pack(t, "a/", "", ofService(&workloadapi.Service{Namespace: "a"})), "without hostname"},
		"odd range": {pack(t, "a/h", "", ofService(&workloadapi.Service{Namespace: "a", Hostname: "h", Addresses: []*workloadapi.NetworkAddress{
			{Address: []byte{10, 0, 0, 0}, Length: proto.Uint32(33)},
		}})), "prefix length 33"},
		"too large": {pack(t, "a", "", ofWorkload(&workloadapi.Workload{
			Uid: "a", AuthorizationPolicies: []string{strings.Repeat("x", maxResourceBytes)},
		})), "payload of 1048"},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMesh(0)
			events, err := m.Apply(addresses(tc.resource), at)
			assert.Empty(t, events)
			require.ErrorContains(t, err, tc.want)
			assert.Zero(t, m.Len())
			assert.Less(t, len(err.Error()), 1000, "errors are bounded")
		})
	}
}

func TestApplyRejectsPolicies(t *testing.T) {
	m := NewMesh(0)
	_, err := m.Apply(policies(pack(t, "shop/", "", &security.Authorization{Namespace: "shop"})), at)
	require.ErrorContains(t, err, "policy without name")
	broken := policyResource(t, "p")
	broken.Resource.Value = []byte{0x0a, 0xff}
	_, err = m.Apply(policies(broken), at)
	require.ErrorContains(t, err, "decoding policy")
	assert.Zero(t, m.Len())
}

func TestApplyNamesOnlyAFewOfManyRejects(t *testing.T) {
	var resources []*discoveryv3.Resource
	for i := range 1000 {
		resources = append(resources, &discoveryv3.Resource{Name: fmt.Sprint(i)})
	}
	_, err := NewMesh(0).Apply(addresses(resources...), at)
	require.ErrorContains(t, err, "1000 resources rejected")
	assert.Less(t, len(err.Error()), 1000)
}

func TestApplyUnknownType(t *testing.T) {
	m := NewMesh(0)
	events, err := m.Apply(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"}, at)
	require.ErrorContains(t, err, "unknown type")
	assert.Empty(t, events)
	assert.EqualValues(t, 1, m.Stats().UnknownTypes)
}

func TestApplyIsBounded(t *testing.T) {
	m := NewMesh(2)
	assert.Equal(t, []string{"+a", "+b"}, apply(t, m,
		addresses(workloadResource(t, "a", "1"), workloadResource(t, "b", "1"), workloadResource(t, "c", "1"))))
	assert.Empty(t, apply(t, m, policies(policyResource(t, "p"))))
	assert.EqualValues(t, 2, m.Stats().Overflowed)
	assert.Equal(t, []string{"+b"}, apply(t, m, addresses(workloadResource(t, "b", "2"))), "what is held still changes")
	gone := addresses()
	gone.RemovedResources = []string{"a"}
	apply(t, m, gone)
	assert.Equal(t, []string{"+c"}, apply(t, m, addresses(workloadResource(t, "c", "1"))), "a removal makes room")
}

func TestVanishedWhileDisconnected(t *testing.T) {
	a1, b1, c1 := "a", "b", "c"
	for name, tc := range map[string]struct {
		complete bool
		first    func(*testing.T) *discoveryv3.DeltaDiscoveryResponse
		want     []string
	}{
		"told no versions: the first response is everything": {
			complete: true,
			first: func(t *testing.T) *discoveryv3.DeltaDiscoveryResponse {
				return addresses(workloadResource(t, b1, "2"), workloadResource(t, "d", "1"))
			},
			want: []string{"+b", "+d", "-a", "-c"},
		},
		"server skips what is known and states removals": {
			first: func(t *testing.T) *discoveryv3.DeltaDiscoveryResponse {
				r := addresses(workloadResource(t, b1, "2"))
				r.RemovedResources = []string{c1}
				return r
			},
			want: []string{"+b", "-c"},
		},
		"server has nothing to add": {
			first: func(*testing.T) *discoveryv3.DeltaDiscoveryResponse { return addresses() },
			want:  []string{},
		},
		"server sends again what is known, so what it leaves out is gone": {
			first: func(t *testing.T) *discoveryv3.DeltaDiscoveryResponse {
				return addresses(workloadResource(t, a1, "1"), workloadResource(t, "d", "1"))
			},
			want: []string{"+d", "-b", "-c"},
		},
		"a resource that cannot be read is still listed": {
			complete: true,
			first: func(t *testing.T) *discoveryv3.DeltaDiscoveryResponse {
				return addresses(workloadResource(t, a1, "1"), &discoveryv3.Resource{Name: b1})
			},
			want: []string{"-c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMesh(0)
			m.NewStream(AddressType, true)
			apply(t, m, addresses(workloadResource(t, a1, "1"), workloadResource(t, b1, "1"), workloadResource(t, c1, "1")))
			m.NewStream(AddressType, tc.complete)
			events, _ := m.Apply(tc.first(t), at)
			assert.Equal(t, tc.want, describe(events))
			assert.Equal(t, []string{"+e"}, apply(t, m, addresses(workloadResource(t, "e", "1"))), "later responses are deltas again")
		})
	}
}

func TestVanishedPoliciesHaveNoVersions(t *testing.T) {
	m := NewMesh(0)
	apply(t, m, policies(policyResource(t, "p"), policyResource(t, "q")))
	m.NewStream(AuthorizationType, false)
	assert.Equal(t, []string{"-shop/p"}, apply(t, m, policies(policyResource(t, "q"))))
	m.NewStream(AuthorizationType, false)
	assert.Equal(t, []string{"-shop/q"}, apply(t, m, policies()))
	assert.EqualValues(t, 2, m.Stats().Vanished)
}

func TestConvertWorkload(t *testing.T) {
	got, err := workload(&workloadapi.Workload{
		Uid: "u", Name: "n", Namespace: "ns", Hostname: "h", Network: "net", Node: "node",
		Addresses:   [][]byte{{10, 0, 0, 1}, {0x20, 0x01, 0xd, 0xb8, 15: 1}, {10: 0xff, 11: 0xff, 12: 10, 15: 2}},
		TrustDomain: "td", ServiceAccount: "sa", ClusterId: "c", WorkloadType: workloadapi.WorkloadType_DEPLOYMENT,
		Status: workloadapi.WorkloadStatus_UNHEALTHY, TunnelProtocol: workloadapi.TunnelProtocol_LEGACY_ISTIO_MTLS,
		Waypoint: &workloadapi.GatewayAddress{Destination: &workloadapi.GatewayAddress_Hostname{
			Hostname: &workloadapi.NamespacedHostname{Namespace: "gw", Hostname: "waypoint.gw"},
		}},
		Services: map[string]*workloadapi.PortList{
			"ns/a": {Ports: []*workloadapi.Port{
				{ServicePort: 443, TargetPort: 8443, AppProtocol: workloadapi.AppProtocol_TLS},
				{ServicePort: 80, TargetPort: 8080, AppProtocol: workloadapi.AppProtocol_HTTP11},
				{ServicePort: 81, AppProtocol: workloadapi.AppProtocol_HTTP2},
				{ServicePort: 82, AppProtocol: workloadapi.AppProtocol_GRPC},
				{ServicePort: 83, AppProtocol: workloadapi.AppProtocol_TCP},
				{ServicePort: 84},
			}},
			"ns/b": nil,
		},
	})
	require.NoError(t, err)
	assert.Equal(t, &mesh.Workload{
		UID: "u", Name: "n", Namespace: "ns", Hostname: "h", Locality: mesh.Locality{Network: "net"}, Node: "node",
		Addresses: []string{"10.0.0.1", "2001:db8::1", "10.0.0.2"},
		Identity:  mesh.Identity{TrustDomain: "td", ServiceAccount: "sa"}, ClusterID: "c", Naming: mesh.Naming{WorkloadType: "deployment"}, Waypoint: "gw/waypoint.gw",
		Services: map[string][]mesh.Port{
			"ns/a": {
				{ServicePort: 80, TargetPort: 8080, AppProtocol: "http"},
				{ServicePort: 81, AppProtocol: "http2"},
				{ServicePort: 82, AppProtocol: "grpc"},
				{ServicePort: 83, AppProtocol: "tcp"},
				{ServicePort: 84},
				{ServicePort: 443, TargetPort: 8443, AppProtocol: "tls"},
			},
			"ns/b": nil,
		},
	}, got)
}

func TestConvertService(t *testing.T) {
	got, err := service(&workloadapi.Service{
		Name: "n", Namespace: "ns", Hostname: "h",
		Addresses: []*workloadapi.NetworkAddress{
			{Address: []byte{10, 1, 0, 0}, Length: proto.Uint32(16)},
			{Address: []byte{10, 0, 0, 9}, Length: proto.Uint32(32)},
			{Address: []byte{10, 0, 0, 8}},
		},
		Ports: []*workloadapi.Port{{ServicePort: 80, TargetPort: 8080}},
		Waypoint: &workloadapi.GatewayAddress{Destination: &workloadapi.GatewayAddress_Address{
			Address: &workloadapi.NetworkAddress{Network: "net", Address: []byte{10, 0, 0, 7}},
		}},
	})
	require.NoError(t, err)
	assert.Equal(t, &mesh.Service{
		Name: "n", Namespace: "ns", Hostname: "h", Waypoint: "10.0.0.7",
		Addresses: []string{"10.0.0.9", "10.0.0.8", "10.1.0.0/16"},
		Ports:     []mesh.Port{{ServicePort: 80, TargetPort: 8080}},
	}, got)
}

func TestRulesAreCanonical(t *testing.T) {
	unknown := &anypb.Any{TypeUrl: "type.googleapis.com/vendor.Secret", Value: []byte{1}}
	groups := []*security.Group{
		{Rules: []*security.Rules{{Matches: []*security.Match{{
			Namespaces:       []*security.StringMatch{{MatchType: &security.StringMatch_Prefix{Prefix: "a b, c: d"}}},
			DestinationPorts: []uint32{80, 443},
			Extensions:       []*workloadapi.Extension{{Name: "vendor", Config: unknown}},
		}}}}},
		{},
	}
	rules, err := Rules(groups)
	require.NoError(t, err)
	const want = `[{"rules":[{"matches":[{"namespaces":[{"prefix":"a b, c: d"}],"destinationPorts":[80,443]}]}]},{}]`
	assert.Equal(t, want, rules) //nolint:testifylint // byte by byte, not as JSON
}

func BenchmarkApply(b *testing.B) {
	const workloads = 10_000
	resources := make([]*discoveryv3.Resource, workloads)
	for i := range resources {
		uid := fmt.Sprintf("Kubernetes//Pod/shop/catalog-7d88-%d", i)
		resources[i] = pack(b, uid, "1", &workloadapi.Address{Type: &workloadapi.Address_Workload{Workload: &workloadapi.Workload{
			Uid: uid, Name: fmt.Sprintf("catalog-7d88-%d", i), Namespace: "shop", Node: "node-b", ServiceAccount: "catalog",
			CanonicalName: "catalog", CanonicalRevision: "v1", WorkloadName: "catalog-v1", WorkloadType: workloadapi.WorkloadType_POD,
			TunnelProtocol: workloadapi.TunnelProtocol_HBONE, Addresses: [][]byte{{10, 1, byte(i >> 8), byte(i)}}, ClusterId: "Kubernetes",
			Services: map[string]*workloadapi.PortList{"shop/catalog.shop.svc.cluster.local": {Ports: []*workloadapi.Port{{ServicePort: 8080, TargetPort: 8080}}}},
			Locality: &workloadapi.Locality{Region: "eu-west", Zone: "eu-west-1b"},
		}}})
	}
	response := addresses(resources...)
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			events, err := NewMesh(0).Apply(response, at)
			if err != nil || len(events) != workloads {
				b.Fatal(len(events), err)
			}
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		m := NewMesh(0)
		_, _ = m.Apply(response, at)
		b.ReportAllocs()
		for b.Loop() {
			events, err := m.Apply(response, at)
			if err != nil || len(events) != 0 {
				b.Fatal(len(events), err)
			}
		}
	})
}
