package servicegraphprocessor

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// This file reads the recordings on a path of its own: nothing of the receiver is used, so that counts agree only if
// both are right.

var recordingNames = []string{"baseline", "payment-refused", "policy-deny", "node-loss", "shipping-500"}

type recordedConnection struct {
	node            string
	time            time.Time
	outbound        bool
	src, dst, hbone netip.AddrPort
	srcPod, srcNS   string
	dstPod, dstNS   string
	service         string
	mutualTLS       bool
	clientSent      uint64
	clientReceived  uint64
	duration        time.Duration
	err             string
}

func (c *recordedConnection) port() uint16 {
	if c.hbone.IsValid() {
		return c.hbone.Port()
	}
	return c.dst.Port()
}

func (c *recordedConnection) destination() netip.Addr {
	if c.hbone.IsValid() {
		return c.hbone.Addr()
	}
	return c.dst.Addr()
}

type recordedMesh struct {
	workloads map[string]*mesh.Workload // by "namespace/pod"
	services  []*mesh.Service
}

type recording struct {
	name        string
	connections []recordedConnection
	mesh        recordedMesh
	traces      []ptrace.Traces
	scrapes     []recordedScrape
}

type recordedScrape struct {
	node string
	time time.Time
	ok   bool
	body []string
}

var recordingsRead = map[string]*recording{}

// readRecording reads a recording once; it must not be modified.
func readRecording(tb testing.TB, name string) *recording {
	tb.Helper()
	if r, ok := recordingsRead[name]; ok {
		return r
	}
	folder := filepath.Join("..", "..", "recordings", name)
	r := &recording{name: name}
	for _, file := range glob(tb, folder, "ztunnel-*.log.gz") {
		node := between(file, "ztunnel-", ".log.gz")
		for _, line := range readLines(tb, file) {
			if c, ok := parseConnection(line); ok {
				c.node = node
				r.connections = append(r.connections, c)
			}
		}
	}
	slices.SortStableFunc(r.connections, func(a, b recordedConnection) int { return a.time.Compare(b.time) })
	r.mesh = readMesh(tb, filepath.Join(folder, "xds.jsonl.gz"))
	for _, line := range readLines(tb, filepath.Join(folder, "otlp-traces.jsonl.gz")) {
		var unmarshaler ptrace.JSONUnmarshaler
		traces, err := unmarshaler.UnmarshalTraces([]byte(line))
		require.NoError(tb, err)
		r.traces = append(r.traces, traces)
	}
	for _, file := range glob(tb, folder, "metrics-*.prom.gz") {
		node := between(file, "metrics-", ".prom.gz")
		for _, line := range readLines(tb, file) {
			if rest, ok := strings.CutPrefix(line, "## scrape "); ok {
				at, state, _ := strings.Cut(rest, " ")
				when, err := time.Parse(time.RFC3339Nano, at)
				require.NoError(tb, err)
				r.scrapes = append(r.scrapes, recordedScrape{node: node, time: when, ok: state == "ok"})
				continue
			}
			if strings.HasPrefix(line, "istio_") {
				last := &r.scrapes[len(r.scrapes)-1]
				last.body = append(last.body, line)
			}
		}
	}
	slices.SortStableFunc(r.scrapes, func(a, b recordedScrape) int { return a.time.Compare(b.time) })
	recordingsRead[name] = r
	return r
}

func glob(tb testing.TB, folder, pattern string) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(folder, pattern))
	require.NoError(tb, err)
	require.NotEmpty(tb, files, "%s/%s", folder, pattern)
	return files
}

func between(path, prefix, suffix string) string {
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), prefix), suffix)
}

func readLines(tb testing.TB, path string) []string {
	tb.Helper()
	file, err := os.Open(path)
	require.NoError(tb, err)
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	require.NoError(tb, err)
	var lines []string
	scanner := bufio.NewScanner(unzipped)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	require.NoError(tb, scanner.Err())
	return lines
}

var plainField = regexp.MustCompile(`([a-z_.]+)=("(?:[^"\\]|\\.)*"|\S+)`)

func parseConnection(line string) (recordedConnection, bool) {
	fields := map[string]string{}
	switch {
	case strings.HasPrefix(line, "{"):
		var raw map[string]any
		decoder := json.NewDecoder(bytes.NewReader([]byte(line)))
		decoder.UseNumber()
		if decoder.Decode(&raw) != nil || raw["scope"] != "access" {
			return recordedConnection{}, false
		}
		for name, value := range raw {
			switch value := value.(type) {
			case string:
				fields[name] = value
			case json.Number:
				fields[name] = value.String()
			}
		}
	default:
		columns := strings.SplitN(line, "\t", 5)
		if len(columns) < 5 || columns[2] != "access" {
			return recordedConnection{}, false
		}
		fields["time"] = columns[0]
		for _, m := range plainField.FindAllStringSubmatch(columns[4], -1) {
			value := m[2]
			if unquoted, err := strconv.Unquote(value); err == nil {
				value = unquoted
			}
			fields[m[1]] = value
		}
	}
	if fields["direction"] == "" {
		return recordedConnection{}, false
	}
	var c recordedConnection
	c.time, _ = time.Parse(time.RFC3339Nano, fields["time"])
	c.outbound = fields["direction"] == "outbound"
	c.src, _ = netip.ParseAddrPort(fields["src.addr"])
	c.dst, _ = netip.ParseAddrPort(fields["dst.addr"])
	c.hbone, _ = netip.ParseAddrPort(fields["dst.hbone_addr"])
	c.srcPod, c.srcNS = fields["src.workload"], fields["src.namespace"]
	c.dstPod, c.dstNS = fields["dst.workload"], fields["dst.namespace"]
	c.service = fields["dst.service"]
	c.mutualTLS = fields["src.identity"] != "" || c.hbone.IsValid()
	sent, _ := strconv.ParseUint(fields["bytes_sent"], 10, 64)
	received, _ := strconv.ParseUint(fields["bytes_recv"], 10, 64)
	c.clientSent, c.clientReceived = sent, received
	if !c.outbound {
		c.clientSent, c.clientReceived = received, sent
	}
	c.duration, _ = time.ParseDuration(fields["duration"])
	c.err = fields["error"]
	return c, true
}

func readMesh(tb testing.TB, path string) recordedMesh {
	tb.Helper()
	m := recordedMesh{workloads: map[string]*mesh.Workload{}}
	type port struct {
		ServicePort uint32 `json:"servicePort"`
		TargetPort  uint32 `json:"targetPort"`
		AppProtocol string `json:"appProtocol"`
	}
	ports := func(from []port) []mesh.Port {
		var to []mesh.Port
		for _, p := range from {
			to = append(to, mesh.Port{ServicePort: p.ServicePort, TargetPort: p.TargetPort, AppProtocol: p.AppProtocol})
		}
		return to
	}
	address := func(text string) string {
		raw, err := base64.StdEncoding.DecodeString(text)
		require.NoError(tb, err)
		addr, ok := netip.AddrFromSlice(raw)
		require.True(tb, ok)
		return addr.String()
	}
	for _, line := range readLines(tb, path) {
		var update struct {
			Response struct {
				Resources []struct {
					Resource struct {
						Workload *struct {
							UID, Name, Namespace, TunnelProtocol, Node, CanonicalName, CanonicalRevision, WorkloadName, ClusterID string
							Addresses                                                                                             []string
							Services                                                                                              map[string]struct{ Ports []port }
						}
						Service *struct {
							Name, Namespace, Hostname string
							Addresses                 []struct{ Address string }
							Ports                     []port
						}
					}
				}
			}
		}
		require.NoError(tb, json.Unmarshal([]byte(line), &update))
		for _, resource := range update.Response.Resources {
			if w := resource.Resource.Workload; w != nil {
				workload := &mesh.Workload{
					UID: w.UID, Name: w.Name, Namespace: w.Namespace, TunnelProtocol: w.TunnelProtocol, Node: w.Node,
					Naming: mesh.Naming{CanonicalName: w.CanonicalName, CanonicalRevision: w.CanonicalRevision, WorkloadName: w.WorkloadName}, ClusterID: w.ClusterID, Healthy: true, Services: map[string][]mesh.Port{},
				}
				for _, text := range w.Addresses {
					workload.Addresses = append(workload.Addresses, address(text))
				}
				for name, service := range w.Services {
					workload.Services[name] = ports(service.Ports)
				}
				m.workloads[w.Namespace+"/"+w.Name] = workload
			}
			if s := resource.Resource.Service; s != nil {
				service := &mesh.Service{Name: s.Name, Namespace: s.Namespace, Hostname: s.Hostname, Ports: ports(s.Ports)}
				for _, a := range s.Addresses {
					service.Addresses = append(service.Addresses, address(a.Address))
				}
				m.services = append(m.services, service)
			}
		}
	}
	require.NotEmpty(tb, m.workloads)
	require.NotEmpty(tb, m.services)
	return m
}

func (m *recordedMesh) at(addr netip.Addr) *mesh.Workload {
	for _, w := range m.workloads {
		if slices.Contains(w.Addresses, addr.String()) {
			return w
		}
	}
	return nil
}

// recordedReason is what a receiver makes of an error of the kinds that the recordings hold.
func recordedReason(text string) (errorType, policy string) {
	switch {
	case text == "":
		return "", ""
	case strings.Contains(text, "explicitly denied by: "):
		_, policy, _ = strings.Cut(text, "explicitly denied by: ")
		return semconv.ErrorTypePolicyDenied, policy
	case strings.HasPrefix(text, "http status: 401"):
		return semconv.ErrorTypePolicyDenied, ""
	case strings.HasPrefix(text, "http status: "):
		return semconv.ErrorTypeConnectFailed, ""
	case strings.Contains(text, "Connection refused"):
		return semconv.ErrorTypeConnectionRefused, ""
	case strings.Contains(text, "onnection reset"):
		return semconv.ErrorTypeConnectionReset, ""
	}
	return semconv.ErrorTypeOther, ""
}
