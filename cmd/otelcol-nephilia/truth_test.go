package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a recording's raw files say, counted on a path of its own: regular expressions and encoding/json, none of
// the product's packages. The tests hold the API to it.

// party is a workload by namespace and owner name.
type party struct{ namespace, name string }

// flow is an edge as the access log tells it.
type flow struct {
	source, destination party
	service             string
	port                int
}

func (f flow) String() string {
	return fmt.Sprintf("%s/%s → %s/%s (%s:%d)",
		f.source.namespace, f.source.name, f.destination.namespace, f.destination.name, f.service, f.port)
}

// count is what an edge carried; sent is from client to server.
type count struct {
	closed, failed int
	sent, received int
	reasons        map[string]int
}

// record is one access-log line.
type record struct {
	outbound         bool
	closed           time.Time
	duration         time.Duration
	client, server   netip.Addr
	port             int
	hbone            string
	sent, received   int // in the client's sense
	errorText        string
	clientPod        string
	clientNamespace  string
	serverPod        string
	serverNamespace  string
	service          string
	clientSocketPort int
	node             string
}

// truth is what one recording holds.
type truth struct {
	records []record
	pods    map[party]party      // pod → workload
	byIP    map[netip.Addr]party // address → workload
	podIP   map[netip.Addr]party // address → pod
	spans   map[[2]party]l7      // server spans, or client spans of peers without any, by client and server workload
	calls   []call               // application calls of one client span and one server span
	expect  []expectation
	start   time.Time // of the scenario
	from    time.Time // first record
	to      time.Time // last record
}

// l7 is the requests of a pair of workloads.
type l7 struct{ requests, errors int }

// call is one application call, seen by both sides.
type call struct {
	clientPod, serverPod   party
	clientStart, clientEnd time.Time
	serverStart, serverEnd time.Time
	traceID, clientSpan    string
}

type expectation struct {
	Root    string      `json:"root"`
	Kind    string      `json:"kind"`
	FromS   float64     `json:"from_s"`
	ToS     float64     `json:"to_s"`
	Edges   [][2]string `json:"edges"`
	WithinS float64     `json:"within_s"`
}

var (
	plainLine  = regexp.MustCompile(`^(\S+)\t(\w+)\taccess[^\t]*\t([^\t]*)\t(.*)$`)
	plainField = regexp.MustCompile(`([a-z_.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S+))`)
)

// readTruth reads a recording's folder, or those of its files that it has.
func readTruth(t testing.TB, folder string) *truth {
	t.Helper()
	tr := &truth{
		pods: map[party]party{}, byIP: map[netip.Addr]party{}, podIP: map[netip.Addr]party{},
		spans: map[[2]party]l7{},
	}
	tr.readWorkloads(t, folder)
	logs, err := filepath.Glob(filepath.Join(folder, "ztunnel-*.log*"))
	require.NoError(t, err)
	for _, path := range logs {
		node := strings.TrimPrefix(strings.Split(filepath.Base(path), ".")[0], "ztunnel-")
		eachLine(t, path, func(line []byte) {
			if r, ok := readRecord(t, line); ok {
				r.node = node
				tr.records = append(tr.records, r)
			}
		})
	}
	for _, r := range tr.records {
		if tr.from.IsZero() || r.closed.Before(tr.from) {
			tr.from = r.closed
		}
		if r.closed.After(tr.to) {
			tr.to = r.closed
		}
	}
	tr.readSpans(t, folder)
	tr.readScenario(t, folder)
	return tr
}

func (tr *truth) readScenario(t testing.TB, folder string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, "truth.json"))
	if os.IsNotExist(err) {
		return
	}
	require.NoError(t, err)
	var scenario struct {
		Scenario struct {
			Expect []expectation `json:"expect"`
		} `json:"scenario"`
		Events []struct {
			Time time.Time `json:"time"`
			Do   string    `json:"do"`
		} `json:"events"`
	}
	require.NoError(t, json.Unmarshal(content, &scenario))
	tr.expect = scenario.Scenario.Expect
	for _, event := range scenario.Events {
		if event.Do == "start" {
			tr.start = event.Time
		}
	}
}

func (tr *truth) readWorkloads(t testing.TB, folder string) {
	t.Helper()
	// A recording whose xDS was taken away is judged by the state that it was recorded with.
	path := filepath.Join(folder, "xds.jsonl.gz")
	eachLine(t, path, func(line []byte) {
		var entry struct {
			Response struct {
				Resources []struct {
					Resource struct {
						Workload *struct {
							Name, Namespace, WorkloadName string
							Addresses                     []string
							Services                      map[string]any
						}
					}
				}
			}
		}
		require.NoError(t, json.Unmarshal(line, &entry))
		for _, resource := range entry.Response.Resources {
			w := resource.Resource.Workload
			if w == nil {
				continue
			}
			owner, pod := party{w.Namespace, w.WorkloadName}, party{w.Namespace, w.Name}
			tr.pods[pod] = owner
			for _, encoded := range w.Addresses {
				raw, err := base64.StdEncoding.DecodeString(encoded)
				require.NoError(t, err)
				addr, ok := netip.AddrFromSlice(raw)
				require.True(t, ok)
				tr.byIP[addr], tr.podIP[addr] = owner, pod
			}
		}
	})
}

func readRecord(t testing.TB, line []byte) (record, bool) {
	t.Helper()
	fields := map[string]string{}
	if bytes.HasPrefix(line, []byte("{")) {
		var object map[string]any
		if json.Unmarshal(line, &object) != nil || object["scope"] != "access" {
			return record{}, false
		}
		for name, value := range object {
			switch value := value.(type) {
			case string:
				fields[name] = value
			case float64:
				fields[name] = strconv.FormatFloat(value, 'f', -1, 64)
			}
		}
	} else {
		match := plainLine.FindSubmatch(line)
		if match == nil {
			return record{}, false
		}
		fields["time"], fields["message"] = string(match[1]), string(match[3])
		for _, field := range plainField.FindAllSubmatch(match[4], -1) {
			fields[string(field[1])] = string(field[2]) + string(field[3])
		}
	}
	if fields["message"] == "connection opened" {
		return record{}, false
	}
	var r record
	var err error
	r.closed, err = time.Parse(time.RFC3339Nano, fields["time"])
	require.NoError(t, err)
	r.outbound = fields["direction"] == "outbound"
	if fields["duration"] != "" {
		r.duration, err = time.ParseDuration(fields["duration"])
		require.NoError(t, err)
	}
	source, err := netip.ParseAddrPort(fields["src.addr"])
	require.NoError(t, err)
	r.client, r.clientSocketPort = source.Addr(), int(source.Port())
	r.hbone = fields["dst.hbone_addr"]
	target := r.hbone
	if target == "" {
		target = fields["dst.addr"]
	}
	destination, err := netip.ParseAddrPort(target)
	require.NoError(t, err)
	r.server, r.port = destination.Addr(), int(destination.Port())
	sent, _ := strconv.Atoi(fields["bytes_sent"])
	received, _ := strconv.Atoi(fields["bytes_recv"])
	r.sent, r.received = sent, received
	if !r.outbound {
		r.sent, r.received = received, sent
	}
	r.errorText = fields["error"]
	r.clientPod, r.clientNamespace = fields["src.workload"], fields["src.namespace"]
	r.serverPod, r.serverNamespace = fields["dst.workload"], fields["dst.namespace"]
	r.service = fields["dst.service"]
	return r, true
}

// connection is what both records of one connection share.
type connection struct {
	client         netip.Addr
	server         netip.Addr
	port           int
	sent, received int
}

func (r *record) connection() connection {
	return connection{r.client, r.server, r.port, r.sent, r.received}
}

// connections is the union of the two sides' records: every outbound one, and the inbound ones that have no outbound
// one with the same client, server and bytes. inbound holds for each outbound record how many it stands for.
func (tr *truth) connections() (all []record, withInbound int) {
	inbound := map[connection][]record{}
	for _, r := range tr.records {
		if !r.outbound {
			inbound[r.connection()] = append(inbound[r.connection()], r)
		}
	}
	for _, r := range tr.records {
		if !r.outbound {
			continue
		}
		if left := inbound[r.connection()]; len(left) > 0 {
			withInbound++
			if left[0].errorText != "" && r.errorText != "" {
				r.errorText = left[0].errorText // the server's side knows the reason
			}
			inbound[r.connection()] = left[1:]
		}
		all = append(all, r)
	}
	for _, left := range inbound {
		all = append(all, left...)
	}
	return all, withInbound
}

func (tr *truth) workload(namespace, pod string, addr netip.Addr) party {
	if owner, ok := tr.pods[party{namespace, pod}]; ok {
		return owner
	}
	if owner, ok := tr.byIP[addr]; ok {
		return owner
	}
	if pod != "" {
		return party{namespace, pod}
	}
	return party{"", addr.String()}
}

// edges counts the connections that keep says to count, per edge.
func (tr *truth) edges() map[flow]*count {
	all, _ := tr.connections()
	edges := map[flow]*count{}
	for _, r := range all {
		key := flow{
			source:      tr.workload(r.clientNamespace, r.clientPod, r.client),
			destination: tr.workload(r.serverNamespace, r.serverPod, r.server),
			service:     r.service,
			port:        r.port,
		}
		c := edges[key]
		if c == nil {
			c = &count{reasons: map[string]int{}}
			edges[key] = c
		}
		c.closed++
		c.sent += r.sent
		c.received += r.received
		if r.errorText != "" {
			c.failed++
			c.reasons[reasonOf(r.errorText)]++
		}
	}
	return edges
}

// reasonOf names the few reasons that the recordings hold.
func reasonOf(text string) string {
	switch {
	case strings.Contains(text, "policy rejection"), strings.Contains(text, "401 Unauthorized"):
		return "policy_denied"
	case strings.HasPrefix(text, "connection failed: Connection refused"):
		return "connection_refused"
	case strings.HasPrefix(text, "io error: Connection refused"): // by port 15008, where a ztunnel should be
		return "hbone_blocked"
	case strings.Contains(text, "503 Service Unavailable"):
		return "connect_failed"
	}
	return "other: " + text
}

func eachLine(t testing.TB, path string, handle func([]byte)) {
	t.Helper()
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return
	}
	require.NoError(t, err)
	defer file.Close()
	var content io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		content, err = gzip.NewReader(file)
		require.NoError(t, err)
	}
	lines := bufio.NewScanner(content)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		handle(lines.Bytes())
	}
	require.NoError(t, lines.Err())
}

var (
	sampleLine  = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} (\S+)`)
	sampleLabel = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

// scrapedLine reads one sample of a family in the Prometheus text format.
func scrapedLine(line, family string) (labels map[string]string, value float64, ok bool) {
	match := sampleLine.FindStringSubmatch(line)
	if match == nil || match[1] != family {
		return nil, 0, false
	}
	value, err := strconv.ParseFloat(match[3], 64)
	if err != nil {
		return nil, 0, false
	}
	labels = map[string]string{}
	for _, label := range sampleLabel.FindAllStringSubmatch(match[2], -1) {
		labels[label[1]] = label[2]
	}
	return labels, value, true
}
