package servicegraphprocessor

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
)

// edgeValues are an edge's last values as they left.
type edgeValues struct {
	Opened, Closed, Active, Sent, Received, Durations uint64
	Failed                                            map[string]uint64
	Requests, RequestsFailed, Latencies               map[string]uint64
	// Responses are by code, flags and source, and by what denied.
	Responses map[string]uint64
}

type seriesID struct {
	edge.Key
	name, extra string
}

// readEdges reads the edges that left and checks that no cumulative series ever goes back.
func readEdges(tb testing.TB, batches []pmetric.Metrics) map[edge.Key]*edgeValues {
	tb.Helper()
	edges := map[edge.Key]*edgeValues{}
	last := map[seriesID]pmetric.NumberDataPoint{}
	get := func(k edge.Key) *edgeValues {
		if e, ok := edges[k]; ok {
			return e
		}
		e := &edgeValues{Failed: map[string]uint64{}, Requests: map[string]uint64{}, RequestsFailed: map[string]uint64{}, Latencies: map[string]uint64{}, Responses: map[string]uint64{}}
		edges[k] = e
		return e
	}
	for _, metrics := range batches {
		for _, r := range metrics.ResourceMetrics().All() {
			for _, s := range r.ScopeMetrics().All() {
				if s.Scope().Name() != semconv.ScopeServiceGraph {
					continue
				}
				for _, m := range s.Metrics().All() {
					if !strings.HasPrefix(m.Name(), "mesh.edge.") {
						continue
					}
					readMetric(tb, m, get, last)
				}
			}
		}
	}
	return edges
}

func readMetric(tb testing.TB, m pmetric.Metric, get func(edge.Key) *edgeValues, last map[seriesID]pmetric.NumberDataPoint) {
	tb.Helper()
	if m.Type() == pmetric.MetricTypeExponentialHistogram {
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			e := get(edge.KeyOf(p.Attributes()))
			if m.Name() == semconv.MetricEdgeConnectionDuration {
				e.Durations = p.Count()
			} else {
				route := ""
				if v, ok := p.Attributes().Get(semconv.LabelHTTPRoute); ok {
					route = v.Str()
				}
				e.Latencies[route] = p.Count()
			}
		}
		return
	}
	var points pmetric.NumberDataPointSlice
	if m.Type() == pmetric.MetricTypeSum {
		points = m.Sum().DataPoints()
	} else {
		points = m.Gauge().DataPoints()
	}
	for _, p := range points.All() {
		key := edge.KeyOf(p.Attributes())
		e := get(key)
		value := uint64(p.IntValue())
		extra := ""
		text := func(name string) string {
			v, ok := p.Attributes().Get(name)
			if !ok {
				return ""
			}
			return v.AsString()
		}
		switch m.Name() {
		case semconv.MetricEdgeOpened:
			e.Opened = value
		case semconv.MetricEdgeClosed:
			e.Closed = value
		case semconv.MetricEdgeActive:
			e.Active = value
		case semconv.MetricEdgeIO:
			extra = text(semconv.LabelDirection)
			if extra == semconv.DirectionSent {
				e.Sent = value
			} else {
				e.Received = value
			}
		case semconv.MetricEdgeFailed:
			extra = text(semconv.LabelErrorType)
			if policy := text(semconv.LabelPolicy); policy != "" {
				extra += " " + policy
			}
			if extra != "" { // the series that stands before there is a failure
				e.Failed[extra] = value
			}
		case semconv.MetricEdgeRequests:
			extra = text(semconv.LabelHTTPRoute)
			e.Requests[extra] = value
		case semconv.MetricEdgeRequestsFailed:
			extra = text(semconv.LabelHTTPRoute)
			e.RequestsFailed[extra] = value
		case semconv.MetricEdgeResponses:
			extra = strings.Join([]string{text(semconv.LabelResponseCode), text(semconv.LabelResponseFlags), text(semconv.LabelRequestSource)}, " ")
			if reason := text(semconv.LabelErrorType); reason != "" {
				extra += strings.TrimRight(" "+reason+" "+text(semconv.LabelPolicy), " ")
			}
			e.Responses[extra] = value
		}
		if m.Type() != pmetric.MetricTypeSum || !m.Sum().IsMonotonic() {
			continue
		}
		id := seriesID{key, m.Name(), extra}
		if before, ok := last[id]; ok {
			require.GreaterOrEqual(tb, p.IntValue(), before.IntValue(), "%v", id)
			require.Equal(tb, before.StartTimestamp(), p.StartTimestamp(), "%v", id)
			require.Greater(tb, p.Timestamp(), before.Timestamp(), "%v", id)
		}
		require.Less(tb, p.StartTimestamp(), p.Timestamp(), "%v", id)
		last[id] = p
	}
}

func (v *edgeValues) failures() (n uint64) {
	for _, count := range v.Failed {
		n += count
	}
	return n
}

func total(counts map[string]uint64) (n uint64) {
	for _, count := range counts {
		n += count
	}
	return n
}

// truth counts a recording's edges from its raw files: the outbound records, and the inbound ones whose source has none.
type truth map[edge.Key]*edgeValues

func (r *recording) party(namespace, pod, addr string) edge.Party {
	w := r.mesh.workloads[namespace+"/"+pod]
	if w == nil {
		return edge.Party{Workload: addr}
	}
	return edge.Party{Workload: w.WorkloadName, Namespace: w.Namespace, App: w.CanonicalName, Version: w.CanonicalRevision, Cluster: w.ClusterID}
}

func (r *recording) keyOf(c *recordedConnection) edge.Key {
	k := edge.Key{
		Source:      r.party(c.srcNS, c.srcPod, c.src.Addr().String()),
		Destination: r.party(c.dstNS, c.dstPod, c.destination().String()),
		Service:     c.service, Port: c.port(), Protocol: semconv.ProtocolTCP, Security: semconv.SecurityNone,
	}
	if c.mutualTLS {
		k.Security = semconv.SecurityMutualTLS
	}
	for _, s := range r.mesh.services {
		if s.Hostname == c.service && s.Ports[0].AppProtocol == "HTTP11" {
			k.Protocol = semconv.ProtocolHTTP
		}
	}
	return k
}

type podPair struct{ src, dst string }

// count takes per pair of pods the larger of both sides' records, which is exact up to those that the end of the
// recording or a killed ztunnel cut.
func (r *recording) count() truth {
	type sides struct {
		n, sent, received, failed [2]uint64
	}
	perKey := map[edge.Key]map[podPair]*sides{}
	for i := range r.connections {
		c := &r.connections[i]
		k := r.keyOf(c)
		if perKey[k] == nil {
			perKey[k] = map[podPair]*sides{}
		}
		pair := podPair{c.srcPod, c.dstPod}
		s := perKey[k][pair]
		if s == nil {
			s = &sides{}
			perKey[k][pair] = s
		}
		by := 1
		if c.outbound {
			by = 0
		}
		s.n[by]++
		s.sent[by] += c.clientSent
		s.received[by] += c.clientReceived
		if c.err != "" {
			s.failed[by]++
		}
	}
	counts := truth{}
	for k, pairs := range perKey {
		v := &edgeValues{Failed: map[string]uint64{}}
		for _, s := range pairs {
			v.Closed += max(s.n[0], s.n[1])
			v.Sent += max(s.sent[0], s.sent[1])
			v.Received += max(s.received[0], s.received[1])
			v.Failed[""] += max(s.failed[0], s.failed[1])
		}
		counts[k] = v
	}
	return counts
}

func TestRecordings(t *testing.T) {
	for _, name := range recordingNames {
		for _, scrapes := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/scrapes=%t", name, scrapes), func(t *testing.T) {
				r := readRecording(t, name)
				p := newPipelines(t, nil)
				p.play(r, playOptions{spans: true, scrapes: scrapes})
				edges := readEdges(t, p.outMetrics.AllMetrics())
				want := r.count()
				requests, errors := r.requests()
				active := r.active(t)
				for key, v := range edges {
					if v.Opened == 0 && total(v.Requests) > 0 {
						continue
					}
					if !scrapes || v.Closed > 0 {
						assert.Contains(t, want, key, "made up: %+v", *v)
					}
				}
				for key, w := range want {
					got := edges[key]
					if !assert.NotNil(t, got, "missing: %+v", key) {
						continue
					}
					assert.InDelta(t, w.Closed, got.Closed, 1, "closed of %+v", key)
					assert.InDelta(t, w.failures(), got.failures(), 1, "failed of %+v", key)
					if !scrapes {
						assert.InEpsilon(t, w.Sent+1, got.Sent+1, 0.01, "sent of %+v", key)
						assert.InEpsilon(t, w.Received+1, got.Received+1, 0.01, "received of %+v", key)
					}
					assert.Equal(t, got.Closed, got.Durations, "durations of %+v", key)
					if scrapes {
						assert.GreaterOrEqual(t, got.Sent, w.Sent, "sent of %+v", key)
						assert.GreaterOrEqual(t, got.Received, w.Received, "received of %+v", key)
						// What was open at the last scrape may have closed since.
						assert.GreaterOrEqual(t, got.Opened, got.Closed, "opened of %+v", key)
						assert.LessOrEqual(t, got.Opened, got.Closed+got.Active, "opened of %+v", key)
						assert.Equal(t, active[key.Source.Workload+key.Destination.Workload], got.Active, "active of %+v", key)
						if got.Active == 0 {
							assert.InEpsilon(t, w.Sent+1, got.Sent+1, 0.01, "sent of %+v", key)
							assert.InEpsilon(t, w.Received+1, got.Received+1, 0.01, "received of %+v", key)
						}
					}
				}
				for pair, n := range requests {
					var sum, failed uint64
					for key, v := range edges {
						if key.Source.App == pair.src && key.Destination.App == pair.dst {
							sum += total(v.Requests)
							failed += total(v.RequestsFailed)
							assert.Equal(t, v.Requests, v.Latencies)
						}
					}
					assert.Equal(t, n, sum, "requests %v", pair)
					assert.Equal(t, errors[pair], failed, "errors %v", pair)
				}
			})
		}
	}
}

// active counts the connections that the sources' ztunnels have open in the last scrapes, by source and destination.
func (r *recording) active(t *testing.T) map[string]uint64 {
	t.Helper()
	last := map[string]recordedScrape{}
	for _, s := range r.scrapes {
		if s.ok {
			last[s.node] = s
		}
	}
	sums := map[string]float64{}
	for _, s := range last {
		for _, line := range s.body {
			m := sampleLine.FindStringSubmatch(line)
			if m == nil || !strings.Contains(m[2], `reporter="source"`) {
				continue
			}
			value, err := strconv.ParseFloat(m[3], 64)
			require.NoError(t, err)
			labels := map[string]string{}
			for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
				labels[pair[1]] = pair[2]
			}
			edge := labels["source_workload"] + labels["destination_workload"]
			switch m[1] {
			case "istio_tcp_connections_opened_total":
				sums[edge] += value
			case "istio_tcp_connections_closed_total":
				sums[edge] -= value
			}
		}
	}
	active := map[string]uint64{}
	for edge, sum := range sums {
		active[edge] = uint64(sum)
	}
	return active
}

// requests counts the server spans by the services of client and server.
func (r *recording) requests() (requests, errors map[podPair]uint64) {
	requests, errors = map[podPair]uint64{}, map[podPair]uint64{}
	seen := map[spanKey]bool{}
	for _, traces := range r.traces {
		for _, rs := range traces.ResourceSpans().All() {
			server, _ := rs.Resource().Attributes().Get("service.name")
			for _, ss := range rs.ScopeSpans().All() {
				for _, span := range ss.Spans().All() {
					id := keyOf(span.TraceID(), span.SpanID())
					if span.Kind() != ptrace.SpanKindServer || seen[id] {
						continue
					}
					seen[id] = true
					address, _ := span.Attributes().Get("client.address")
					pair := podPair{r.mesh.at(netip.MustParseAddrPort(address.Str()).Addr()).CanonicalName, server.Str()}
					requests[pair]++
					status, _ := span.Attributes().Get("http.response.status_code")
					if span.Status().Code() == ptrace.StatusCodeError || status.Int() >= 500 {
						errors[pair]++
					}
				}
			}
		}
	}
	return requests, errors
}

func TestReasons(t *testing.T) {
	for _, tt := range []struct {
		recording, reason string
		n                 uint64
	}{
		{"policy-deny", "policy_denied billing/no-checkout", 65},
		{"payment-refused", "connection_refused", 56},
	} {
		t.Run(tt.recording, func(t *testing.T) {
			p := newPipelines(t, nil)
			p.play(readRecording(t, tt.recording), playOptions{scrapes: true})
			failed := map[string]uint64{}
			for key, v := range readEdges(t, p.outMetrics.AllMetrics()) {
				if key.Source.App == "checkout" && key.Destination.App == "payment" {
					for reason, n := range v.Failed {
						failed[reason] += n
					}
				}
			}
			assert.Equal(t, map[string]uint64{tt.reason: tt.n}, failed)
		})
	}
}

func TestBatchesDoNotMatter(t *testing.T) {
	for _, name := range []string{"policy-deny", "node-loss"} {
		r := readRecording(t, name)
		p := newPipelines(t, nil)
		p.play(r, playOptions{spans: true, scrapes: true})
		want := readEdges(t, p.outMetrics.AllMetrics())
		for seed := range uint64(3) {
			shuffled := newPipelines(t, nil)
			shuffled.play(r, playOptions{spans: true, scrapes: true, shuffle: rand.New(rand.NewPCG(seed, 1))})
			require.Equal(t, want, readEdges(t, shuffled.outMetrics.AllMetrics()), "%s seed %d", name, seed)
		}
	}
}
