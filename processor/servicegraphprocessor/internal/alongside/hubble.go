package alongside

import (
	"encoding/json"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
)

// maxFlow bounds a flow's JSON, in bytes.
const maxFlow = 64 << 10

// observed is a flow as Hubble exports it (cilium, api/v1/flow/flow.proto, in protobuf's JSON), as far as it is read.
type observed struct {
	Flow struct {
		Verdict string `json:"verdict"`
		Reason  string `json:"drop_reason_desc"`
		IP      struct {
			Source      string `json:"source"`
			Destination string `json:"destination"`
		} `json:"IP"`
		L4 struct {
			TCP *struct {
				Port  uint16 `json:"destination_port"`
				Flags struct {
					SYN bool `json:"SYN"`
					ACK bool `json:"ACK"`
				} `json:"flags"`
			} `json:"TCP"`
		} `json:"l4"`
		Source      endpoint `json:"source"`
		Destination endpoint `json:"destination"`
		Direction   string   `json:"traffic_direction"`
		Reply       *bool    `json:"is_reply"`
	} `json:"flow"`
}

// endpoint is an end of a flow.
type endpoint struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod_name"`
	Cluster   string `json:"cluster_name"`
	Workloads []struct {
		Name string `json:"name"`
	} `json:"workloads"`
}

func (e *endpoint) owner() string {
	if len(e.Workloads) > 0 {
		return e.Workloads[0].Name
	}
	return ""
}

// Take takes over Hubble's flows among logs, which stay as they are: lines of its export, or records whose body has the same fields.
func (t *Table) Take(logs plog.Logs) {
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if text := flowOf(record.Body()); text != "" {
					t.flow(text)
				}
			}
		}
	}
}

// flowOf is a body's flow as JSON, empty for what is none.
func flowOf(body pcommon.Value) string {
	switch body.Type() {
	case pcommon.ValueTypeStr:
		if text := body.Str(); len(text) <= maxFlow && strings.HasPrefix(text, `{"flow":`) {
			return text
		}
	case pcommon.ValueTypeMap:
		if flow, ok := body.Map().Get("flow"); ok && flow.Type() == pcommon.ValueTypeMap {
			if text := body.AsString(); len(text) <= maxFlow {
				return text
			}
		}
	}
	return ""
}

// flow counts a connection where it is opened: its first packet as the client's node saw it, or the server's for clients of other places, and what was
// dropped where it was.
func (t *Table) flow(text string) {
	var o observed
	if json.Unmarshal([]byte(text), &o) != nil {
		return
	}
	f := &o.Flow
	tcp := f.L4.TCP
	if tcp == nil || !tcp.Flags.SYN || tcp.Flags.ACK || f.Reply != nil && *f.Reply {
		return
	}
	dropped := f.Verdict == "DROPPED"
	if f.Verdict != "FORWARDED" && !dropped || !dropped && f.Direction == "INGRESS" && f.Source.Pod != "" {
		return
	}
	e := t.edge(edge.Key{
		Source:      t.party(f.Source.Namespace, f.Source.owner(), f.Source.Pod, f.IP.Source, f.Source.Cluster),
		Destination: t.party(f.Destination.Namespace, f.Destination.owner(), f.Destination.Pod, f.IP.Destination, f.Destination.Cluster),
		Port:        tcp.Port, Protocol: semconv.ProtocolTCP, Security: semconv.SecurityUnknown, Teller: semconv.EdgeSourceHubble,
	})
	if e == nil {
		return
	}
	e.dirty = true
	switch {
	case dropped && strings.EqualFold(f.Reason, "POLICY_DENIED"):
		e.denied++
	case dropped:
		e.dropped++
	}
	// One that is dropped at the server was forwarded by the client's node and counted there.
	if !dropped || f.Direction != "INGRESS" || f.Source.Pod == "" {
		e.connections++
	}
}

// portOf reads a port, 0 for none.
func portOf(text string) uint16 {
	port, _ := strconv.ParseUint(text, 10, 16)
	return uint16(port)
}
