package mesh

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Flow is an edge as the access log tells it: workloads as namespace/name.
type Flow struct {
	Source, Destination string
	Port                int
}

func (f Flow) String() string { return fmt.Sprintf("%s → %s:%d", f.Source, f.Destination, f.Port) }

// Count is what an edge carried.
type Count struct{ Closed, Failed int }

// Ledger counts the connections of all the access logs that were written, by regular expressions and encoding/json and
// none of the product's code. It is safe for concurrent use.
type Ledger struct {
	pods map[string]string     // namespace/pod → namespace/workload
	ips  map[netip.Addr]string // address → namespace/workload

	mu      sync.Mutex
	records []record
}

// record is one entry of an access log.
type record struct {
	outbound       bool
	client, server netip.Addr
	port           int
	sent, received string // bytes, in the client's sense
	failed         bool
	flow           Flow
}

// NewLedger prepares an empty ledger of a recording's mesh.
func NewLedger(recording *Recording) (*Ledger, error) {
	l := &Ledger{pods: map[string]string{}, ips: map[netip.Addr]string{}}
	for i := range recording.Pods {
		p := &recording.Pods[i]
		address, err := netip.ParseAddr(p.IP)
		if err != nil {
			return nil, fmt.Errorf("reading the address of pod %s: %w", p.Name, err)
		}
		workload := p.Namespace + "/" + p.Workload()
		l.pods[p.Namespace+"/"+p.Name], l.ips[address] = workload, workload
	}
	return l, nil
}

var (
	plainEntry = regexp.MustCompile(`^(\S+)\t(\w+)\taccess[^\t]*\t([^\t]*)\t(.*)$`)
	plainField = regexp.MustCompile(`([a-z_.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S+))`)
)

// add counts one line if it is an access-log entry.
func (l *Ledger) add(text []byte) {
	fields := map[string]string{}
	if bytes.HasPrefix(text, []byte("{")) {
		var object map[string]any
		if json.Unmarshal(text, &object) != nil || object["scope"] != "access" {
			return
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
		match := plainEntry.FindSubmatch(text)
		if match == nil {
			return
		}
		fields["message"] = string(match[3])
		for _, field := range plainField.FindAllSubmatch(match[4], -1) {
			fields[string(field[1])] = string(field[2]) + string(field[3])
		}
	}
	if fields["message"] == "connection opened" {
		return
	}
	r := record{outbound: fields["direction"] == "outbound", failed: fields["error"] != "", sent: fields["bytes_sent"], received: fields["bytes_recv"]}
	if !r.outbound {
		r.sent, r.received = r.received, r.sent
	}
	source, _ := netip.ParseAddrPort(fields["src.addr"])
	target := fields["dst.hbone_addr"]
	if target == "" {
		target = fields["dst.addr"]
	}
	destination, _ := netip.ParseAddrPort(target)
	r.client, r.server, r.port = source.Addr(), destination.Addr(), int(destination.Port())
	r.flow = Flow{
		Source:      l.workload(fields["src.namespace"], fields["src.workload"], r.client),
		Destination: l.workload(fields["dst.namespace"], fields["dst.workload"], r.server),
		Port:        r.port,
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
}

func (l *Ledger) workload(namespace, pod string, address netip.Addr) string {
	if workload, ok := l.pods[namespace+"/"+pod]; ok {
		return workload
	}
	if workload, ok := l.ips[address]; ok {
		return workload
	}
	if pod != "" {
		return namespace + "/" + pod
	}
	return "/" + address.String()
}

// Counts are the connections of every edge so far: each outbound record is one, and so is each inbound one that has no
// outbound one of the same client, server and bytes.
func (l *Ledger) Counts() map[Flow]Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	type connection struct {
		client, server netip.Addr
		port           int
		sent, received string
	}
	outbound := map[connection]int{}
	counts := map[Flow]Count{}
	add := func(r *record) {
		c := counts[r.flow]
		c.Closed++
		if r.failed {
			c.Failed++
		}
		counts[r.flow] = c
	}
	for i := range l.records {
		if r := &l.records[i]; r.outbound {
			outbound[connection{r.client, r.server, r.port, r.sent, r.received}]++
			add(r)
		}
	}
	for i := range l.records {
		r := &l.records[i]
		if r.outbound {
			continue
		}
		key := connection{r.client, r.server, r.port, r.sent, r.received}
		if outbound[key] > 0 {
			outbound[key]--
			continue
		}
		add(r)
	}
	return counts
}

// Total is the sum over all edges.
func Total(counts map[Flow]Count) (total Count) {
	for _, c := range counts {
		total.Closed += c.Closed
		total.Failed += c.Failed
	}
	return total
}

// Difference describes where two countings differ; empty is nowhere.
func Difference(want, got map[Flow]Count) string {
	var b strings.Builder
	for flow, w := range want {
		if g := got[flow]; g != w {
			fmt.Fprintf(&b, "%v: want %+v, got %+v\n", flow, w, g)
		}
	}
	for flow, g := range got {
		if _, ok := want[flow]; !ok {
			fmt.Fprintf(&b, "%v: want none, got %+v\n", flow, g)
		}
	}
	return b.String()
}
