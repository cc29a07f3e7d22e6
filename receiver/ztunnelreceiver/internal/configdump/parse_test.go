package configdump

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/mesh"
)

var at = time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)

func parse(t *testing.T, raw string, options Options) Dump {
	t.Helper()
	dump, err := Parse([]byte(raw), "node-a", at, options)
	require.NoError(t, err)
	return dump
}

func TestParseTakesWhatThereIs(t *testing.T) {
	dump := parse(t, `{}`, Options{State: true})
	assert.Equal(t, Dump{Time: at, HasState: true, Ztunnel: &mesh.Ztunnel{Node: "node-a"}}, dump)
	dump = parse(t, ` {"certificates":null,"config":null,"version":null,"workloadState":null,"workloads":null,"services":null,"policies":null}`, Options{State: true})
	assert.Equal(t, Dump{Time: at, HasState: true, Ztunnel: &mesh.Ztunnel{Node: "node-a"}}, dump)
}

func TestParseCertificates(t *testing.T) {
	dump := parse(t, `{"certificates":[
		{"identity":"spiffe://td/ns/a/sa/b","state":"Unavailable: CA is away","certChain":[],"rootCerts":[]},
		{"identity":"spiffe://td/ns/a/sa/c","state":"Available",
		 "certChain":[{"serialNumber":"1","validFrom":"2026-11-23T22:00:00+01:00","expirationTime":"2026-11-24T21:00:00Z"},
		              {"serialNumber":"2","expirationTime":"2027-11-24T21:00:00Z"}],
		 "rootCerts":[{"expirationTime":"2036-01-01T00:00:00Z"},{"expirationTime":"2030-01-01T00:00:00Z"},{"expirationTime":""}]},
		{"state":"Available"}]}`, Options{})
	assert.Equal(t, []mesh.Certificate{
		{Identity: "spiffe://td/ns/a/sa/b", State: "Unavailable: CA is away"},
		{
			Identity: "spiffe://td/ns/a/sa/c", State: "Available", SerialNumber: "1",
			NotBefore: at, NotAfter: at.Add(24 * time.Hour), RootNotAfter: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		},
	}, dump.Ztunnel.Certificates)
	assert.Equal(t, 1, dump.Dropped, "a certificate of nobody")
}

// Collections are lists in some ztunnels and maps in others; fields come and go.
func TestParseOldAndNewShapes(t *testing.T) {
	want := parse(t, `{"workloads":[{"uid":"u1","name":"n1","workloadIps":["10.0.0.1"],"services":["ns/h"]},{"uid":"u2","name":"n2"}],
		"services":[{"name":"s","namespace":"ns","hostname":"h","vips":["net/10.1.0.1"],"ports":{"80":8080},
			"endpoints":{"u1":{"workloadUid":"u1","port":{"80":8081}}},"cidrVips":[{"network":"net","cidr":"10.2.0.0/16"}]}],
		"workloadState":{"x":{"state":"Up","info":{"name":"n1","namespace":"ns"},"connections":{"inbound":[{},{}],"outbound":[{}]}}}}`, Options{State: true})
	require.Len(t, want.Workloads, 2)
	assert.Equal(t, map[string][]mesh.Port{"ns/h": {{ServicePort: 80, TargetPort: 8081}}}, want.Workloads[0].Services)
	assert.Equal(t, &mesh.Service{
		Name: "s", Namespace: "ns", Hostname: "h", Addresses: []string{"10.1.0.1", "10.2.0.0/16"}, Ports: []mesh.Port{{ServicePort: 80, TargetPort: 8080}},
	}, want.Services[0])
	assert.Equal(t, []Connections{{Namespace: "ns", Pod: "n1", Inbound: 2, Outbound: 1}}, want.Connections)

	got := parse(t, `{"workloads":{"10":{"uid":"u2","name":"n2","someday":{"a":[1]}},"9":{"uid":"u1","name":"n1","workloadIps":{"0":"/10.0.0.1"},"services":{"ns/h":{}}}},
		"services":{"ns/h":{"name":"s","namespace":"ns","hostname":"h","vips":{"a":"10.1.0.1"},"ports":{"80":8080},
			"endpoints":{"u1":{"port":{"80":8081}}},"cidrVips":["net/10.2.0.0/16"]}},
		"workloadState":{"x":{"state":"Up","info":{"name":"n1","namespace":"ns"},"connections":{"inbound":{"a":{},"b":{}},"outbound":{"c":{}}}}}}`, Options{State: true})
	assert.Equal(t, want, got)

	older := parse(t, `{"workloads":[{"uid":"u1","name":"n1"}],
		"services":[{"name":"s","namespace":"ns","hostname":"h","endpoints":{"u1":{"port":{"80":8081}}}}]}`, Options{State: true})
	assert.Equal(t, map[string][]mesh.Port{"ns/h": {{ServicePort: 80, TargetPort: 8081}}}, older.Workloads[0].Services,
		"a workload that lists no services is found among their endpoints")
}

func TestParseWorkload(t *testing.T) {
	dump := parse(t, `{"workloads":[{"uid":"u","name":"n","namespace":"ns","node":"node-b","clusterId":"c","network":"net","serviceAccount":"sa",
		"trustDomain":"td","workloadName":"w","workloadType":"Deployment","canonicalName":"cn","canonicalRevision":"cr","hostname":"h",
		"protocol":"HBONE","status":"Unhealthy","workloadIps":["10.0.0.1","::ffff:10.0.0.2","2001:db8::1"],"authorizationPolicies":["ns/p"],
		"waypoint":{"destination":"gw/waypoint.gw","hboneMtlsPort":15008},"locality":{"region":"r","zone":"z","subzone":"s"}},
		{"uid":"v","protocol":"TCP","waypoint":{"destination":"net/10.0.0.9"}}]}`, Options{State: true})
	assert.Equal(t, []*mesh.Workload{
		{
			UID: "u", Name: "n", Namespace: "ns", Node: "node-b", ClusterID: "c", Locality: mesh.Locality{Network: "net", Region: "r", Zone: "z"}, Identity: mesh.Identity{ServiceAccount: "sa", TrustDomain: "td"}, Naming: mesh.Naming{WorkloadName: "w", WorkloadType: "deployment", CanonicalName: "cn", CanonicalRevision: "cr"}, Hostname: "h", TunnelProtocol: "HBONE",
			Addresses: []string{"10.0.0.1", "10.0.0.2", "2001:db8::1"}, Policies: []string{"ns/p"}, Waypoint: "gw/waypoint.gw",
		},
		{UID: "v", ClusterID: "Kubernetes", Identity: mesh.Identity{ServiceAccount: "default", TrustDomain: "cluster.local"}, Waypoint: "10.0.0.9", Healthy: true},
	}, dump.Workloads)
}

func TestParsePolicy(t *testing.T) {
	dump := parse(t, `{"policies":[{"name":"p","namespace":"ns","scope":"Namespace","action":"Allow","dryRun":true,"rules":[[[{
		"namespaces":[{"Exact":"a"},{"Prefix":"b"},{"Suffix":"c"},{"Presence":[]},{}],"notNamespaces":[{"Exact":"d"}],
		"serviceAccounts":[{"namespace":"a","serviceAccount":"b"}],"notServiceAccounts":[{"namespace":"c","serviceAccount":"d"}],
		"notPrincipals":[{"Prefix":"e"}],"sourceIps":["10.0.0.0/8",""],"notSourceIps":["10.1.0.0/16"],
		"destinationIps":["10.2.0.0/16"],"notDestinationIps":["10.3.0.0/16"],"destinationPorts":[80],"notDestinationPorts":[81]}]]]},
		{"name":"g","scope":"Global","action":"Deny","rules":[]}]}`, Options{State: true})
	assert.Equal(t, []*mesh.Policy{
		{
			Name: "p", Namespace: "ns", Scope: "NAMESPACE", Action: "ALLOW", DryRun: true,
			Rules: `[{"rules":[{"matches":[{"namespaces":[{"exact":"a"},{"prefix":"b"},{"suffix":"c"},{"presence":{}}],` +
				`"notNamespaces":[{"exact":"d"}],` +
				`"serviceAccounts":[{"namespace":"a","serviceAccount":"b"}],"notServiceAccounts":[{"namespace":"c","serviceAccount":"d"}],` +
				`"notPrincipals":[{"prefix":"e"}],"sourceIps":[{"address":"CgAAAA==","length":8}],"notSourceIps":[{"address":"CgEAAA==","length":16}],` +
				`"destinationIps":[{"address":"CgIAAA==","length":16}],"notDestinationIps":[{"address":"CgMAAA==","length":16}],` +
				`"destinationPorts":[80],"notDestinationPorts":[81]}]}]}]`,
		},
		{Name: "g", Scope: "GLOBAL", Action: "DENY"},
	}, dump.Policies)
}

func TestParseIsBounded(t *testing.T) {
	var workloads, certificates []string
	for i := range 10 {
		workloads = append(workloads, fmt.Sprintf(`{"uid":"u%d","name":"n"}`, i))
		certificates = append(certificates, fmt.Sprintf(`{"identity":"i%d","state":%q}`, i, strings.Repeat("é", 10_000)))
	}
	workloads = append(workloads, `{"uid":"`+strings.Repeat("x", maxNameLength+1)+`"}`, `{"name":"nobody"}`)
	raw := `{"workloads":[` + strings.Join(workloads, ",") + `],"certificates":[` + strings.Join(certificates, ",") + `]}`
	dump := parse(t, raw, Options{State: true, MaxEntities: 4})
	assert.Len(t, dump.Workloads, 4)
	assert.Len(t, dump.Ztunnel.Certificates, 4)
	assert.Len(t, dump.Ztunnel.Certificates[0].State, maxStateLength)
	assert.Equal(t, 6+6+2, dump.Dropped)

	_, err := Parse([]byte(raw), "node-a", at, Options{MaxBytes: len(raw) - 1})
	require.ErrorContains(t, err, "exceed the bound")
}

func TestParseFails(t *testing.T) {
	for name, raw := range map[string]string{
		"nothing":            ``,
		"HTML":               `<html>`,
		"null":               `null`,
		"a list":             `[]`,
		"cut":                `{"workloads":[{"uid":"u"`,
		"more behind it":     `{} {}`,
		"deep":               `{"certificates":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`,
		"certificates":       `{"certificates":"none"}`,
		"certificate":        `{"certificates":[7]}`,
		"odd time":           `{"certificates":[{"identity":"i","certChain":[{"expirationTime":"soon"}]}]}`,
		"time as number":     `{"certificates":[{"identity":"i","certChain":[{"expirationTime":7}]}]}`,
		"node as number":     `{"config":{"localNode":7}}`,
		"long node":          `{"config":{"ztunnelWorkload":{"name":"` + strings.Repeat("x", maxNameLength+1) + `"}}}`,
		"proxies as list":    `{"workloadState":[]}`,
		"connections":        `{"workloadState":{"x":{"connections":{"inbound":7}}}}`,
		"workloads":          `{"workloads":7}`,
		"workload":           `{"workloads":["u"]}`,
		"address":            `{"workloads":[{"uid":"u","workloadIps":["somewhere"]}]}`,
		"addresses":          `{"workloads":[{"uid":"u","workloadIps":"10.0.0.1"}]}`,
		"uid":                `{"workloads":[{"uid":{}}]}`,
		"workload's service": `{"workloads":[{"uid":"u","services":[7]}]}`,
		"ports":              `{"services":[{"hostname":"h","ports":{"http":80}}]}`,
		"huge port":          `{"services":[{"hostname":"h","ports":{"80":1e99}}]}`,
		"negative port":      `{"services":[{"hostname":"h","ports":{"80":-1}}]}`,
		"virtual address":    `{"services":[{"hostname":"h","vips":["net/"]}]}`,
		"range":              `{"services":[{"hostname":"h","cidrVips":["10.0.0.0"]}]}`,
		"range of nothing":   `{"services":[{"hostname":"h","cidrVips":[{"cidr":"wide"}]}]}`,
		"rules":              `{"policies":[{"name":"p","rules":[7]}]}`,
		"rule's range":       `{"policies":[{"name":"p","rules":[[[{"sourceIps":["wide"]}]]]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(raw), "node-a", at, Options{State: true})
			require.ErrorContains(t, err, "parsing config dump")
			assert.Less(t, len(err.Error()), 500)
		})
	}
	_, err := Parse([]byte(`{}`), "", at, Options{})
	require.ErrorContains(t, err, "names no node")
}

func FuzzConfigDump(f *testing.F) {
	f.Add([]byte(`{"config":{"localNode":"n","clusterId":"c"},"version":{"version":"v"},"workloads":[{"uid":"u","workloadIps":["10.0.0.1"],"services":["ns/h"]}],` +
		`"services":[{"name":"s","namespace":"ns","hostname":"h","vips":["net/10.1.0.1"],"ports":{"80":8080},"endpoints":{"u":{"port":{"80":8081}}}}]}`))
	f.Add([]byte(`{"workloads":{"a":{"uid":"u"}},"policies":[{"name":"p","rules":[[[{"sourceIps":["10.0.0.0/8"]}]]]}]}`))
	f.Add([]byte(`{"certificates":[{"identity":"i","certChain":[{"expirationTime":"2026-11-24T21:00:00Z"}]}],"workloadState":{"a":{"info":{"name":"n"}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		options := Options{State: true, MaxEntities: 20}
		dump, err := Parse(raw, "node-a", at, options)
		if err != nil {
			return
		}
		if len(dump.Workloads) > 20 || len(dump.Services) > 20 || len(dump.Policies) > 20 || len(dump.Ztunnel.Certificates) > 20 {
			t.Fatal("more than the bound")
		}
		for _, event := range dump.Events() {
			if event.Entity.Key() == "" {
				t.Fatalf("%s without identity", event.Entity.Type())
			}
		}
		state := NewState(time.Minute)
		state.Apply(dump)
		if again := state.Apply(dump); len(again) != 1 {
			// Two entities of one key in one dump take turns.
			seen := map[string]bool{}
			for _, event := range dump.Events() {
				if seen[name(event.Entity)] {
					return
				}
				seen[name(event.Entity)] = true
			}
			t.Fatalf("%d events of a repetition", len(again))
		}
	})
}
