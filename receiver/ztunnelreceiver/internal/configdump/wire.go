package configdump

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The dump's JSON as far as it is read. Fields are optional, unknown ones are skipped.

type wireDump struct {
	Certificates  list[wireCertificate]     `json:"certificates"`
	Config        json.RawMessage           `json:"config"`
	Version       wireVersion               `json:"version"`
	WorkloadState map[string]wireProxyState `json:"workloadState"`
}

type wireState struct {
	Policies  list[wirePolicy]   `json:"policies"`
	Services  list[wireService]  `json:"services"`
	Workloads list[wireWorkload] `json:"workloads"`
}

type wireCertificate struct {
	Identity  string         `json:"identity"`
	State     string         `json:"state"`
	CertChain list[wireX509] `json:"certChain"`
	RootCerts list[wireX509] `json:"rootCerts"`
}

type wireX509 struct {
	SerialNumber   string    `json:"serialNumber"`
	ValidFrom      timestamp `json:"validFrom"`
	ExpirationTime timestamp `json:"expirationTime"`
}

type wireConfig struct {
	LocalNode       string   `json:"localNode"`
	XDSAddress      string   `json:"xdsAddress"`
	ClusterID       string   `json:"clusterId"`
	ZtunnelWorkload wireInfo `json:"ztunnelWorkload"`
	Resolver        struct {
		NameServers list[wireNameServer] `json:"name_servers"`
	} `json:"dnsResolverCfg"`
}

type wireNameServer struct {
	IP string `json:"ip"`
}

type wireInfo struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type wireVersion struct {
	Version      string `json:"version"`
	IstioVersion string `json:"istioVersion"`
	Crypto       string `json:"cryptoProvider"`
}

type wireProxyState struct {
	State       string          `json:"state"`
	Info        wireInfo        `json:"info"`
	Connections wireConnections `json:"connections"`
}

type wireConnections struct {
	Inbound  count `json:"inbound"`
	Outbound count `json:"outbound"`
}

type wireWorkload struct {
	wireIdentity
	wireOwner

	Hostname              string       `json:"hostname"`
	Protocol              string       `json:"protocol"`
	Status                string       `json:"status"`
	WorkloadIPs           list[string] `json:"workloadIps"`
	AuthorizationPolicies list[string] `json:"authorizationPolicies"`
	Services              names        `json:"services"`
	Waypoint              *wireGateway `json:"waypoint"`
	Locality              wireLocality `json:"locality"`
}

// wireIdentity is what tells a workload from others.
type wireIdentity struct {
	UID            string `json:"uid"`
	Name           string `json:"name"`
	Namespace      string `json:"namespace"`
	Node           string `json:"node"`
	ClusterID      string `json:"clusterId"`
	Network        string `json:"network"`
	NetworkMode    string `json:"networkMode"`
	ServiceAccount string `json:"serviceAccount"`
	TrustDomain    string `json:"trustDomain"`
}

// wireOwner is what a workload is an instance of.
type wireOwner struct {
	WorkloadName      string `json:"workloadName"`
	WorkloadType      string `json:"workloadType"`
	CanonicalName     string `json:"canonicalName"`
	CanonicalRevision string `json:"canonicalRevision"`
}

type wireLocality struct {
	Region string `json:"region"`
	Zone   string `json:"zone"`
}

type wireGateway struct {
	Destination string `json:"destination"`
}

type wireService struct {
	Name      string                  `json:"name"`
	Namespace string                  `json:"namespace"`
	Hostname  string                  `json:"hostname"`
	VIPs      list[string]            `json:"vips"`
	CIDRVIPs  list[wireCIDR]          `json:"cidrVips"`
	Ports     portMap                 `json:"ports"`
	Endpoints map[string]wireEndpoint `json:"endpoints"`
	Waypoint  *wireGateway            `json:"waypoint"`
}

// wireCIDR is {"network":"…","cidr":"…"} or "network/cidr".
type wireCIDR string

// UnmarshalJSON implements json.Unmarshaler.
func (c *wireCIDR) UnmarshalJSON(raw []byte) error {
	if isObject(raw) {
		var object struct {
			CIDR string `json:"cidr"`
		}
		err := json.Unmarshal(raw, &object)
		*c = wireCIDR(object.CIDR)
		return err
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	_, cidr, found := strings.Cut(text, "/")
	if !found {
		return fmt.Errorf("range %.64q is not network/range", text)
	}
	*c = wireCIDR(cidr)
	return nil
}

type wireEndpoint struct {
	WorkloadUID string  `json:"workloadUid"`
	Port        portMap `json:"port"`
}

type wirePolicy struct {
	Name      string          `json:"name"`
	Namespace string          `json:"namespace"`
	Scope     string          `json:"scope"`
	Action    string          `json:"action"`
	DryRun    bool            `json:"dryRun"`
	Rules     [][][]wireMatch `json:"rules"`
}

type wireMatch struct {
	Namespaces          []wireStringMatch    `json:"namespaces"`
	NotNamespaces       []wireStringMatch    `json:"notNamespaces"`
	ServiceAccounts     []wireServiceAccount `json:"serviceAccounts"`
	NotServiceAccounts  []wireServiceAccount `json:"notServiceAccounts"`
	Principals          []wireStringMatch    `json:"principals"`
	NotPrincipals       []wireStringMatch    `json:"notPrincipals"`
	SourceIPs           []netip.Prefix       `json:"sourceIps"`
	NotSourceIPs        []netip.Prefix       `json:"notSourceIps"`
	DestinationIPs      []netip.Prefix       `json:"destinationIps"`
	NotDestinationIPs   []netip.Prefix       `json:"notDestinationIps"`
	DestinationPorts    []uint32             `json:"destinationPorts"`
	NotDestinationPorts []uint32             `json:"notDestinationPorts"`
}

// wireStringMatch is one of {"Exact":"…"}, {"Prefix":"…"}, {"Suffix":"…"} and {"Presence":[]}.
type wireStringMatch struct {
	Exact    *string         `json:"Exact"`
	Prefix   *string         `json:"Prefix"`
	Suffix   *string         `json:"Suffix"`
	Presence json.RawMessage `json:"Presence"`
}

type wireServiceAccount struct {
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"serviceAccount"`
}

// list reads an array, or an object's values in the order of their keys: ztunnels have moved several collections from
// the one to the other.
type list[T any] []T

// UnmarshalJSON implements json.Unmarshaler.
func (l *list[T]) UnmarshalJSON(raw []byte) error {
	if !isObject(raw) {
		return json.Unmarshal(raw, (*[]T)(l))
	}
	var byKey map[string]T
	if err := json.Unmarshal(raw, &byKey); err != nil {
		return err
	}
	*l = make([]T, 0, len(byKey))
	for _, key := range sortedKeys(byKey) {
		*l = append(*l, byKey[key])
	}
	return nil
}

// names reads an array of strings, or an object's keys in order.
type names []string

// UnmarshalJSON implements json.Unmarshaler.
func (n *names) UnmarshalJSON(raw []byte) error {
	if !isObject(raw) {
		return json.Unmarshal(raw, (*[]string)(n))
	}
	var byKey map[string]json.RawMessage
	if err := json.Unmarshal(raw, &byKey); err != nil {
		return err
	}
	*n = sortedKeys(byKey)
	return nil
}

// count is the number of elements of an array or object.
type count int

// UnmarshalJSON implements json.Unmarshaler.
func (c *count) UnmarshalJSON(raw []byte) error {
	var elements list[skip]
	if err := json.Unmarshal(raw, &elements); err != nil {
		return err
	}
	*c = count(len(elements))
	return nil
}

type skip struct{}

// UnmarshalJSON implements json.Unmarshaler.
func (skip) UnmarshalJSON([]byte) error { return nil }

// portMap reads {"<service port>": <target port>}.
type portMap map[uint16]uint16

// timestamp is an RFC 3339 time; an empty or absent one is zero.
type timestamp struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *timestamp) UnmarshalJSON(raw []byte) error {
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	if text == nil || *text == "" {
		return nil
	}
	parsed, err := time.Parse(time.RFC3339, *text)
	if err != nil {
		return fmt.Errorf("time %.64q: %w", *text, err)
	}
	t.Time = parsed.UTC()
	return nil
}

// address reads "network/ip", or a bare address as older ztunnels write it.
func address(text string) (string, error) {
	ip := text[strings.IndexByte(text, '/')+1:]
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return "", fmt.Errorf("address %.64q: %w", text, err)
	}
	return addr.Unmap().String(), nil
}

// gateway reads "network/ip" or "namespace/hostname".
func gateway(g *wireGateway) string {
	if g == nil {
		return ""
	}
	if ip, err := address(g.Destination); err == nil {
		return ip
	}
	return g.Destination
}

func isObject(raw []byte) bool {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	return len(raw) > 0 && raw[0] == '{'
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

// compareKeys orders numeric keys by value, so that lists that became objects keep their order.
func compareKeys(a, b string) int {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	if errA == nil && errB == nil {
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(a, b))
	}
	return cmp.Compare(a, b)
}
