package graph

import (
	"bytes"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/exphist"
)

// quantiles are the percentiles that every duration has.
var quantiles = []float64{0.5, 0.9, 0.95, 0.99}

// AppendJSON appends the graph as JSON (schema Graph of the OpenAPI file).
func (g *Graph) AppendJSON(b []byte) []byte {
	b = append(b, `{"start":`...)
	b = AppendTime(b, g.Start)
	b = append(b, `,"end":`...)
	b = AppendTime(b, g.End)
	b = append(b, `,"data_time":`...)
	b = AppendTime(b, g.Clock)
	b = append(b, `,"from":`...)
	b = appendString(b, g.From)
	b = append(b, `,"nodes":[`...)
	for i := range g.Nodes {
		if i > 0 {
			b = append(b, ',')
		}
		b = g.Nodes[i].appendJSON(b)
	}
	b = append(b, `],"edges":[`...)
	g.quote()
	b = g.appendEdges(b)
	return append(b, `]}`...)
}

// quote keeps the nodes' ids as JSON: each is part of many edges.
func (g *Graph) quote() {
	g.quoted = make([][]byte, len(g.Nodes))
	var b []byte
	for i := range g.Nodes {
		from := len(b)
		b = appendString(b, g.Nodes[i].ID)
		g.quoted[i] = b[from:len(b):len(b)]
	}
}

func (g *Graph) appendID(b []byte, node int) []byte {
	if g.quoted != nil {
		return append(b, g.quoted[node]...)
	}
	return appendString(b, g.Nodes[node].ID)
}

// shardEdges is the number of edges that a goroutine is worth.
const shardEdges = 1024

// appendEdges appends the edges, several goroutines at a time where that is worth it.
func (g *Graph) appendEdges(b []byte) []byte {
	encode := func(b []byte, edges []*Edge) []byte {
		e := g.encoder()
		for i, one := range edges {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.edge(b, g, one)
		}
		return b
	}
	n := len(g.Edges)
	workers := min(runtime.GOMAXPROCS(0), (n+shardEdges-1)/shardEdges)
	if workers <= 1 {
		return encode(b, g.Edges)
	}
	parts := make([]*[]byte, workers)
	var done sync.WaitGroup
	for i := range workers - 1 {
		done.Go(func() {
			part := buffers.Get().(*[]byte)
			*part = encode((*part)[:0], g.Edges[(i+1)*n/workers:(i+2)*n/workers])
			parts[i] = part
		})
	}
	b = encode(b, g.Edges[:n/workers])
	done.Wait()
	for _, part := range parts[:workers-1] {
		b = append(b, ',')
		b = append(b, *part...)
		buffers.Put(part)
	}
	return b
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func (g *Graph) encoder() encoder {
	return encoder{seconds: max(float64(g.End-g.Start)/1000, 0.001)}
}

// JSONSize estimates the length of the graph as JSON, from some of its edges.
func (g *Graph) JSONSize() int {
	const samples = 16
	size := 256
	for i := range g.Nodes {
		size += 256 + 128*len(g.Nodes[i].Pods)
	}
	if len(g.Edges) == 0 {
		return size
	}
	longest := 0
	var b []byte
	for i := range samples {
		b = g.AppendEdge(b[:0], g.Edges[i*len(g.Edges)/samples])
		longest = max(longest, len(b))
	}
	return size + (longest+8)*len(g.Edges)
}

// AppendEdge appends one of the graph's edges as JSON (schema Edge of the OpenAPI file).
func (g *Graph) AppendEdge(b []byte, one *Edge) []byte {
	e := g.encoder()
	return e.edge(b, g, one)
}

// EdgeID is the stable id of one of the graph's edges.
func (g *Graph) EdgeID(one *Edge) string {
	var e encoder
	return strconv.FormatUint(e.edgeID(g.Nodes[one.Source].ID, g.Nodes[one.Destination].ID, one), 16)
}

// AppendNode appends one of the graph's nodes as JSON (schema Node of the OpenAPI file).
func (g *Graph) AppendNode(b []byte, n *Node) []byte { return n.appendJSON(b) }

func (n *Node) appendJSON(b []byte) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, n.ID)
	b = append(b, `,"type":`...)
	b = appendString(b, n.Type)
	b = append(b, `,"namespace":`...)
	b = appendString(b, n.Namespace)
	b = append(b, `,"name":`...)
	b = appendString(b, n.Name)
	b = append(b, `,"app":`...)
	b = appendString(b, n.App)
	b = append(b, `,"version":`...)
	b = appendString(b, n.Version)
	b = append(b, `,"cluster":`...)
	b = appendString(b, n.Cluster)
	b = append(b, `,"in_mesh":`...)
	b = strconv.AppendBool(b, n.InMesh)
	b = append(b, `,"health":`...)
	b = appendHealth(b, n.Health, n.Reason)
	b = append(b, `,"pods":[`...)
	for i, pod := range n.Pods {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = appendString(b, pod.Name)
		b = append(b, `,"node":`...)
		b = appendString(b, pod.Node)
		b = append(b, `,"ip":`...)
		ip := ""
		if len(pod.Addresses) > 0 {
			ip = pod.Addresses[0]
		}
		b = appendString(b, ip)
		b = append(b, `,"healthy":`...)
		b = strconv.AppendBool(b, pod.Healthy)
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

func appendHealth(b []byte, health, reason string) []byte {
	b = appendString(b, health)
	if reason != "" {
		b = appendString(append(b, `,"health_reason":`...), reason)
	}
	return b
}

// encoder keeps the memory that encoding edges needs.
type encoder struct {
	seconds float64
	id      []byte
	reasons []live.ReasonCount
	named   []named
	values  [4]float64
}

func (e *encoder) edge(b []byte, g *Graph, one *Edge) []byte {
	if one.Counts.Kept == nil {
		b = e.encodeCounts(e.encodeHead(b, g, one), one.Counts)
	} else {
		b = e.appendKept(b, g, one)
	}
	b = append(b, `,"health":`...)
	b = appendHealth(b, one.Health, one.Reason)
	if one.Behind != nil {
		b = e.appendHops(b, g, one)
	}
	return append(b, '}')
}

// appendKept appends an edge, up to its health, as it was encoded before if it still is the same.
func (e *encoder) appendKept(b []byte, g *Graph, one *Edge) []byte {
	source, destination := g.Nodes[one.Source].ID, g.Nodes[one.Destination].ID
	known := one.Counts.Kept.Load()
	same := known != nil && known.Source == source && known.Destination == destination
	if same && known.Seconds == e.seconds {
		return append(append(b, known.Head...), known.JSON...)
	}
	from := len(b)
	if same {
		b = append(b, known.Head...)
	} else {
		b = e.encodeHead(b, g, one)
	}
	head := len(b)
	b = e.encodeCounts(b, one.Counts)
	encoded := bytes.Clone(b[from:])
	one.Counts.Kept.Store(&live.Encoding{
		Source: source, Destination: destination, Head: encoded[:head-from], Seconds: e.seconds, JSON: encoded[head-from:],
	})
	return b
}

// encodeHead appends what tells an edge apart.
func (e *encoder) encodeHead(b []byte, g *Graph, one *Edge) []byte {
	source, destination := g.Nodes[one.Source].ID, g.Nodes[one.Destination].ID
	b = append(b, `{"id":"`...)
	b = strconv.AppendUint(b, e.edgeID(source, destination, one), 16)
	b = append(b, `","source":`...)
	b = g.appendID(b, one.Source)
	b = append(b, `,"destination":`...)
	b = g.appendID(b, one.Destination)
	b = append(b, `,"service":`...)
	b = appendString(b, one.Service)
	b = append(b, `,"port":`...)
	b = strconv.AppendUint(b, uint64(one.Port), 10)
	b = append(b, `,"protocol":`...)
	protocol := one.Protocol
	if protocol == "" {
		protocol = "tcp"
	}
	b = appendString(b, protocol)
	b = append(b, `,"security":`...)
	b = appendString(b, one.Security)
	b = append(b, `,"waypoint":`...)
	b = appendString(b, one.Waypoint)
	if one.Teller != "" {
		b = append(b, `,"told_by":`...)
		b = appendString(b, one.Teller)
	}
	return b
}

// encodeCounts appends the members of an edge that say what happened on it.
func (e *encoder) encodeCounts(b []byte, c *live.Counts) []byte {
	b = append(b, `,"connections":{"opened":`...)
	b = strconv.AppendUint(b, c.Fields[live.Opened], 10)
	b = append(b, `,"closed":`...)
	b = strconv.AppendUint(b, c.Fields[live.Closed], 10)
	b = append(b, `,"failed":`...)
	b = strconv.AppendUint(b, c.Failed, 10)
	if n := c.Fields[live.Unanswered]; n > 0 {
		b = append(b, `,"unanswered":`...)
		b = strconv.AppendUint(b, n, 10)
	}
	b = append(b, `,"active":`...)
	b = strconv.AppendInt(b, c.Active, 10)
	b = append(b, `,"rate":`...)
	b = appendFloat(b, float64(c.Fields[live.Opened])/e.seconds)
	b = append(b, `},"failures":{`...)
	b = e.appendFailures(b, c)
	b = append(b, `},"denied_by":{`...)
	b = e.appendPolicies(b, c)
	b = append(b, `},"bytes":{"sent":`...)
	b = strconv.AppendUint(b, c.Fields[live.Sent], 10)
	b = append(b, `,"received":`...)
	b = strconv.AppendUint(b, c.Fields[live.Received], 10)
	b = append(b, `},"requests":{"total":`...)
	b = strconv.AppendUint(b, c.Fields[live.Requests], 10)
	b = append(b, `,"errors":`...)
	b = strconv.AppendUint(b, c.Fields[live.RequestsFailed], 10)
	if n := c.Denied(); n > 0 {
		b = append(b, `,"denied":`...)
		b = strconv.AppendUint(b, n, 10)
	}
	b = append(b, `,"rate":`...)
	b = appendFloat(b, float64(c.Fields[live.Requests])/e.seconds)
	b = e.appendResponses(b, c.Responses)
	b = append(b, `},"duration_ms":`...)
	b = e.appendPercentiles(b, &c.Request)
	b = append(b, `,"connection_duration_ms":`...)
	return e.appendPercentiles(b, &c.Connection)
}

func (e *encoder) appendFailures(b []byte, c *live.Counts) []byte {
	if len(c.Reasons) == 0 {
		return b
	}
	e.reasons = append(e.reasons[:0], c.Reasons...)
	slices.SortFunc(e.reasons, func(x, y live.ReasonCount) int { return strings.Compare(x.Reason.ErrorType, y.Reason.ErrorType) })
	for i := 0; i < len(e.reasons); {
		name, n := e.reasons[i].Reason.ErrorType, uint64(0)
		for ; i < len(e.reasons) && e.reasons[i].Reason.ErrorType == name; i++ {
			n += e.reasons[i].Count
		}
		b = appendMember(b, name, n)
	}
	return b
}

func (e *encoder) appendPolicies(b []byte, c *live.Counts) []byte {
	e.named = e.named[:0]
	for policy, n := range c.DeniedBy() {
		e.count(policy, n.All())
	}
	return e.appendNamed(b)
}

func appendMember(b []byte, name string, n uint64) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = appendString(b, name)
	b = append(b, ':')
	return strconv.AppendUint(b, n, 10)
}

// appendPercentiles appends a histogram of seconds as percentiles in milliseconds, null where nothing was measured.
func (e *encoder) appendPercentiles(b []byte, h *exphist.Histogram) []byte {
	if h.Count == 0 {
		return append(b, `{"p50":null,"p90":null,"p95":null,"p99":null}`...)
	}
	h.Quantiles(quantiles, e.values[:])
	b = append(b, `{"p50":`...)
	b = appendFloat(b, e.values[0]*1000)
	b = append(b, `,"p90":`...)
	b = appendFloat(b, e.values[1]*1000)
	b = append(b, `,"p95":`...)
	b = appendFloat(b, e.values[2]*1000)
	b = append(b, `,"p99":`...)
	b = appendFloat(b, e.values[3]*1000)
	return append(b, '}')
}

// edgeID is a stable number for an edge: a hash of what tells it apart.
func (e *encoder) edgeID(source, destination string, one *Edge) uint64 {
	e.id = append(e.id[:0], source...)
	e.id = append(e.id, 0)
	e.id = append(e.id, destination...)
	e.id = append(e.id, 0)
	e.id = append(e.id, one.Service...)
	e.id = append(e.id, 0)
	e.id = strconv.AppendUint(e.id, uint64(one.Port), 10)
	e.id = append(e.id, one.Protocol...)
	e.id = append(e.id, 0)
	e.id = append(e.id, one.Security...)
	e.id = append(e.id, 0)
	e.id = append(e.id, one.Waypoint...)
	e.id = append(e.id, one.Teller...)
	return xxhash.Sum64(e.id)
}

// AppendTime appends unix milliseconds as a JSON string in the form of RFC 3339.
func AppendTime(b []byte, ms int64) []byte {
	b = append(b, '"')
	b = time.UnixMilli(ms).UTC().AppendFormat(b, "2006-01-02T15:04:05.999Z07:00")
	return append(b, '"')
}

// appendFloat appends a number with at most four decimals.
func appendFloat(b []byte, v float64) []byte {
	scaled := math.Round(v * 1e4)
	if !(math.Abs(scaled) < 1<<52) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return append(b, '0')
		}
		return strconv.AppendFloat(b, v, 'f', 0, 64)
	}
	if scaled < 0 {
		b = append(b, '-')
		scaled = -scaled
	}
	n := uint64(scaled)
	b = strconv.AppendUint(b, n/1e4, 10)
	fraction := n % 1e4
	if fraction == 0 {
		return b
	}
	b = append(b, '.')
	for divisor := uint64(1000); fraction > 0; divisor /= 10 {
		b = append(b, byte('0'+fraction/divisor))
		fraction %= divisor
	}
	return b
}

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string; what is not UTF-8 becomes U+FFFD, and what HTML could mistake is escaped.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[from:i]...)
			b = append(b, `\ufffd`...)
			i++
			from = i
			continue
		}
		i += size
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
