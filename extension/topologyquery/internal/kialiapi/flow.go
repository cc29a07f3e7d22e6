package kialiapi

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/semconv"
)

// flow is what goes from one node to another by a protocol.
type flow struct {
	source, target int
	Protocol       string
	rates
	// connections and failed are numbers, by which L4 failures are told; codes are numbers of requests by code and flags.
	all, failed, secure uint64
	codes               map[[2]string]uint64 // bounded by the responses
	hosts               map[string]uint64    // bounded by the edge's services
	worst               string
	responseTime        float64
	bytes               float64
}

// flows puts edges together that Kiali does not tell apart.
func (q *question) flows(g *graph.Graph) []*flow {
	type key struct {
		source, target int
		protocol       string
	}
	known := map[key]*flow{} // bounded by the edges
	var out []*flow
	seconds := max(q.end.Sub(q.start).Seconds(), 0.001)
	for _, e := range g.Edges {
		if !slices.Contains(q.namespaces, g.Nodes[e.Source].Namespace) && !slices.Contains(q.namespaces, g.Nodes[e.Destination].Namespace) || e.Counts.Empty() {
			continue
		}
		protocol := semconv.ProtocolTCP
		if (e.Protocol == semconv.ProtocolHTTP || e.Protocol == semconv.ProtocolGRPC) && e.Counts.Fields[live.Requests] > 0 {
			protocol = e.Protocol
		}
		k := key{e.Source, e.Destination, protocol}
		f := known[k]
		if f == nil {
			f = &flow{source: e.Source, target: e.Destination, Protocol: protocol, codes: map[[2]string]uint64{}, hosts: map[string]uint64{}}
			known[k] = f
			out = append(out, f)
		}
		f.merge(e, seconds, q)
	}
	return out
}

// flagOf names why a connection failed as Envoy's response flags do, where it has one, and DENY where a policy denied it.
func flagOf(errorType string) string {
	switch errorType {
	case semconv.ErrorTypePolicyDenied:
		return "DENY"
	case "connection_reset":
		return "UC"
	case "connection_timeout":
		return "UT"
	case "no_healthy_upstream":
		return "UH"
	case "dns_failure":
		return "DF"
	}
	return "UF"
}

func (f *flow) merge(e *graph.Edge, seconds float64, q *question) {
	c := e.Counts
	requests := c.Fields[live.Requests]
	n := requests + c.Failed
	if f.Protocol == semconv.ProtocolTCP {
		n = max(c.Fields[live.Closed], c.Fields[live.Opened], c.Failed, requests)
	}
	f.all += n
	for _, r := range c.Reasons {
		f.failed += r.Count
		f.codes[[2]string{"-", flagOf(r.Reason.ErrorType)}] += r.Count
	}
	if e.Security == semconv.SecurityMutualTLS {
		f.secure += n
	}
	f.hosts[e.Service] += n
	if graph.Worse(e.Health, f.worst) {
		f.worst = e.Health
	}
	per := func(n uint64) float64 { return float64(n) / seconds }
	sent, received := per(c.Fields[live.Received]), per(c.Fields[live.Sent]) // as the server sees it
	f.bytes += map[string]float64{"request": received, "response": sent}[q.throughput]
	switch f.Protocol {
	case semconv.ProtocolTCP:
		f.tcp += map[string]float64{"sent": sent, "received": received, "total": sent + received}[q.tcpRate]
		f.codes[[2]string{"-", "-"}] += n - min(c.Failed, n)
	case semconv.ProtocolGRPC:
		f.grpc += per(n)
		f.grpcErr += per(c.Fields[live.RequestsFailed] + c.Failed)
		f.respond(c, requests)
	default:
		f.http += per(n)
		f.httpNone += per(c.Failed)
		for _, r := range c.Responses {
			switch {
			case strings.HasPrefix(r.Response.Code, "3"):
				f.http3xx += per(r.Count)
			case strings.HasPrefix(r.Response.Code, "4"):
				f.http4xx += per(r.Count)
			case strings.HasPrefix(r.Response.Code, "5"):
				f.http5xx += per(r.Count)
			case r.Response.Code == "0":
				f.httpNone += per(r.Count)
			}
		}
		f.respond(c, requests)
	}
	if c.Request.Count > 0 {
		var value [1]float64
		c.Request.Quantiles([]float64{0.95}, value[:])
		f.responseTime = max(f.responseTime, value[0]*1000)
	}
}

// respond counts what answered requests; of those of which nobody tells the code is unknown.
func (f *flow) respond(c *live.Counts, requests uint64) {
	var told uint64
	for _, r := range c.Responses {
		code := r.Response.Code
		if code == "0" {
			code = "-"
		}
		f.codes[[2]string{code, cmp.Or(r.Response.Flags, "-")}] += r.Count
		told += r.Count
	}
	if requests > told {
		f.codes[[2]string{"-", "-"}] += requests - told
	}
}

// errors are the errors among all, in percent.
func (f *flow) errors() float64 {
	switch {
	case f.http > 0:
		return 100 * (f.httpNone + f.http4xx + f.http5xx) / f.http
	case f.grpc > 0:
		return 100 * f.grpcErr / f.grpc
	}
	return 100 * float64(f.failed) / float64(max(f.all, 1))
}

func percent(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

func (f *flow) edge(ids map[int]string, from *nodeTraffic) *edgeData {
	d := &edgeData{ID: hash(ids[f.source], ".", ids[f.target], ".", f.Protocol), Source: ids[f.source], Target: ids[f.target]}
	d.Traffic = protocolTraffic{f.Protocol, map[string]string{}, map[string]response{}}
	r := d.Traffic.Rates
	switch f.Protocol {
	case semconv.ProtocolTCP:
		put(r, "tcp", f.tcp)
	case semconv.ProtocolGRPC:
		put(r, "grpc", f.grpc)
		put(r, "grpcErr", f.grpcErr)
		if f.grpcErr > 0 {
			r["grpcPercentErr"] = percent(f.errors())
		}
		r["grpcPercentReq"] = percent(100 * f.grpc / from.out.grpc)
	default:
		put(r, "http", f.http)
		put(r, "httpNoResponse", f.httpNone)
		put(r, "http3xx", f.http3xx)
		put(r, "http4xx", f.http4xx)
		put(r, "http5xx", f.http5xx)
		if errors := f.errors(); errors > 0 {
			r["httpPercentErr"] = percent(errors)
		}
		r["httpPercentReq"] = percent(100 * f.http / from.out.http)
	}
	share := func(n uint64) float64 { return 100 * float64(n) / float64(max(f.all, 1)) }
	for key, n := range f.codes {
		if n == 0 {
			continue
		}
		one, ok := d.Traffic.Responses[key[0]]
		if !ok {
			one = response{map[string]string{}, map[string]string{}}
			for host, of := range f.hosts {
				if host != "" {
					// Which of several hosts a response is from is not known.
					one.Hosts[host] = percent(share(f.ofCode(key[0])) * float64(of) / float64(max(f.all, 1)))
				}
			}
			d.Traffic.Responses[key[0]] = one
		}
		one.Flags[key[1]] = percent(share(n))
	}
	if f.secure > 0 {
		d.IsMTLS = strconv.FormatFloat(math.Round(share(f.secure)), 'f', 0, 64)
	}
	if f.responseTime > 0 {
		d.ResponseTime = fmt.Sprintf("%.0f", f.responseTime)
	}
	if f.bytes > 0 {
		d.Throughput = fmt.Sprintf("%.0f", f.bytes)
	}
	d.HealthStatus = f.health()
	return d
}

// ofCode is how many of all had a code.
func (f *flow) ofCode(code string) (n uint64) {
	for key, count := range f.codes {
		if key[0] == code {
			n += count
		}
	}
	return n
}

// health is what Kiali's tolerances say of an edge's errors, L4 failures among them, or what is known here, if that is worse.
func (f *flow) health() string {
	known := statuses[f.worst]
	switch errors := f.errors(); {
	case errors >= failureFrom || known == statusFailure:
		return statusFailure
	case errors > 0 || known == statusDegraded:
		return statusDegraded
	case f.worst == graph.Unknown:
		return statusUnknown
	}
	return statusHealthy
}
