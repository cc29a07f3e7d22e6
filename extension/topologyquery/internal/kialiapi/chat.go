package kialiapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/jaegerapi"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/reply"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Bounds of the tools' answers.
const (
	maxArguments = 64 << 10 // bytes
	maxRows      = 200
	maxAlerts    = 20
	// recent is how long ago an outage may have ended that is an alert still.
	recent = 15 * time.Minute
)

// arguments are those of a tool: numbers, booleans and text. Names are in camel case, or in snake case as the tools themselves have them.
type arguments map[string]any // bounded by maxArguments

func (a arguments) text(name string) string {
	snake := strings.Builder{}
	for _, r := range name {
		if r >= 'A' && r <= 'Z' {
			snake.WriteByte('_')
			r += 'a' - 'A'
		}
		snake.WriteRune(r)
	}
	for _, key := range [...]string{name, snake.String()} {
		if value, ok := a[key]; ok && value != nil {
			return fmt.Sprint(value)
		}
	}
	return ""
}

func (a arguments) number(name string, fallback, most int) int {
	n, err := strconv.ParseFloat(a.text(name), 64)
	if err != nil || n < 1 {
		return fallback
	}
	return int(min(n, float64(most)))
}

// chat answers a tool of Kiali's assistant. What a model gets is what is sent.
func (a *API) chat(r *http.Request) (any, error) {
	tools := map[string]func(*http.Request, arguments) (any, error){ // bounded: constant
		"get_mesh_status": a.meshStatus, "get_mesh_traffic_graph": a.trafficGraph, "list_traces": a.listTraces, "get_trace_details": a.traceDetails,
		"list_clusters": a.listClusters, "list_or_get_resources": a.resources, "get_metrics": a.metrics,
	}
	tool := tools[r.PathValue("tool")]
	if tool == nil {
		return nil, reply.Fail(http.StatusNotFound, "Tool not found: "+r.PathValue("tool"))
	}
	args := arguments{}
	decoder := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxArguments))
	if err := decoder.Decode(&args); err != nil && r.ContentLength != 0 {
		return nil, reply.Bad("the arguments are no JSON object: %s", err)
	}
	return tool(r, args)
}

// at makes a request for the same with query parameters.
func at(r *http.Request, values url.Values) *http.Request {
	clone := r.Clone(r.Context())
	clone.URL.RawQuery = values.Encode()
	return clone
}

func (a *API) listClusters(*http.Request, arguments) (any, error) {
	out := []object{}
	for i, name := range a.clusters() {
		out = append(out, object{"name": name, "isHome": i == 0})
	}
	return out, nil
}

func (a *API) meshStatus(r *http.Request, _ arguments) (any, error) {
	end := a.Now()
	health := map[string]string{} // bounded by the namespaces
	err := a.graphOf(r.Context(), end.Add(-5*time.Minute), end, graph.ByNamespace, func(g *graph.Graph) {
		for i := range g.Nodes {
			health[g.Nodes[i].Name] = statuses[g.Nodes[i].Health]
		}
	})
	if err != nil {
		return nil, err
	}
	namespaces := []object{}
	for _, one := range a.allNamespaces() {
		if !one.ControlPlane && len(namespaces) < maxRows {
			namespaces = append(namespaces, object{"cluster": one.Cluster, "name": one.Name, "is_ambient": one.Ambient, "health": cmp.Or(health[one.Name], statusUnknown)})
		}
	}
	ready, pods := 0, []object{}
	ztunnels := a.ztunnels()
	for _, z := range ztunnels {
		phase := "Unknown"
		if z.up {
			ready, phase = ready+1, "Running"
		}
		if len(pods) < maxRows {
			pods = append(pods, object{"name": cmp.Or(z.Name, "ztunnel"), "node": z.Node, "phase": phase, "ready": z.up})
		}
	}
	word := func(ok bool) string {
		if ok {
			return statusHealthy
		}
		return statusDegraded
	}
	// Who is told nothing of by any ztunnel is not healthy for that.
	control, alerts := statusUnknown, []object{}
	if ready > 0 {
		control = statusHealthy
	}
	open := 0
	for _, o := range a.Outages.List(end.Add(-recent), time.Time{}, "") {
		if o.State == semconv.OutageStateOpen {
			open++
			if o.Kind == "control_plane_down" {
				control = statusFailure
			}
		}
		if len(alerts) < maxAlerts {
			var felt []string
			for _, i := range o.Impact[:min(len(o.Impact), maxAlerts)] {
				felt = append(felt, i.Namespace+"/"+i.Name.Name)
			}
			alerts = append(alerts, object{
				"component": strings.TrimPrefix(o.Root.Namespace+"/"+o.Root.Name, "/"), "message": o.Summary, "cluster": "",
				"impact": o.State + "; " + o.Severity + "; felt by " + cmp.Or(strings.Join(felt, ", "), "nobody else"),
			})
		}
	}
	versions, domains := map[string]bool{}, map[string]bool{} // bounded by the mesh's state
	for _, z := range ztunnels {
		versions[z.Version] = true
	}
	for _, w := range a.Mesh.Workloads() {
		for _, pod := range w.Pods {
			domains[pod.TrustDomain] = true
		}
	}
	return object{
		"components": object{
			"control_plane": object{"status": control, "nodes": []object{{"cluster": a.clusters()[0], "name": "istiod", "namespace": controlPlane, "status": control, "version": ""}}},
			"data_plane": object{
				"monitored_namespaces": namespaces,
				"ztunnel": object{
					"daemonset": object{"desired_pods": len(ztunnels), "ready_pods": ready, "status": word(ready == len(ztunnels))}, "pods": pods,
				},
			},
		},
		"connectivity_graph": []object{{"from": "ztunnel", "to": "istiod", "status": control}, {"from": "nephilia", "to": "ztunnel", "status": word(ready == len(ztunnels))}},
		"critical_alerts":    alerts, "open_outages": open,
		"environment": object{
			"ztunnel_version": all(versions), "kiali_version": version, "timestamp": end.Format(time.RFC3339), "trust_domain": all(domains),
		},
	}, nil
}

// told is a ztunnel, and whether all that is read of it arrives.
type told struct {
	*mesh.Ztunnel
	up bool
}

func (a *API) ztunnels() []told {
	up := map[string]bool{} // bounded by the sources
	for _, node := range a.Sources.Nodes() {
		up[node.Name] = true
		for _, source := range node.Sources {
			up[node.Name] = up[node.Name] && source.Up && source.Problem == ""
		}
	}
	var list []told
	for _, z := range a.Mesh.Ztunnels() {
		list = append(list, told{z, up[z.Node]})
	}
	return list
}

// all names what is known, in order.
func all(known map[string]bool) string {
	delete(known, "")
	names := slices.Sorted(maps.Keys(known))
	return strings.Join(names[:min(len(names), maxAlerts)], ", ")
}

func (a *API) trafficGraph(r *http.Request, args arguments) (any, error) {
	names := cmp.Or(args.text("namespaces"), args.text("namespace"))
	if names == "" {
		for _, one := range a.allNamespaces() {
			names += one.Name + ","
		}
	}
	q, err := a.questionOf(url.Values{"namespaces": {names}, "graphType": {args.text("graphType")}, "duration": {args.text("rateInterval")}})
	if err != nil {
		return nil, err
	}
	out := object{"graphType": q.kind, "namespaces": q.namespaces}
	err = a.graphOf(r.Context(), q.start, q.end, graphTypes[q.kind], func(g *graph.Graph) {
		nodes, traffic, worst := []object{}, []object{}, []object{}
		var total, failed float64
		overall := statusHealthy
		for i := range g.Nodes {
			n := &g.Nodes[i]
			if !slices.Contains(q.namespaces, n.Namespace) {
				continue
			}
			if len(nodes) < maxRows {
				nodes = append(nodes, object{"name": n.Namespace + "/" + n.Name, "type": n.Type, "version": n.Version})
			}
			status := statuses[n.Health]
			if status == statusFailure || status == statusDegraded && overall == statusHealthy {
				overall = status
			}
			if (status == statusFailure || status == statusDegraded) && len(worst) < maxAlerts {
				worst = append(worst, object{"type": n.Type, "namespace": n.Namespace, "name": n.Name, "status": status, "issue": n.Reason, "errorRate": n.FailureRatio()})
			}
		}
		flows := q.flows(g)
		for _, f := range flows {
			from, to := &g.Nodes[f.source], &g.Nodes[f.target]
			total += float64(f.all)
			failed += float64(f.all) * f.errors() / 100
			if len(traffic) < maxRows {
				traffic = append(traffic, object{
					"source": from.Namespace + "/" + from.Name, "target": to.Namespace + "/" + to.Name, "protocol": f.Protocol, "mTLS": f.secure > 0,
					"throughput": rateText(float64(f.all)/q.end.Sub(q.start).Seconds()) + " per second", "responseTimeMs": int(f.responseTime), "health": f.health(),
					"errorRate": percent(f.errors()) + "%",
				})
			}
		}
		out["nodes"], out["traffic"], out["traffic_total"] = nodes, traffic, len(flows)
		rate := failed / max(total, 1)
		out["health"] = object{"overallStatus": overall, "availability": 100 * (1 - rate), "totalErrorRate": rate, "topUnhealthy": worst}
	})
	return out, err
}

func (a *API) listTraces(r *http.Request, args arguments) (any, error) {
	service := args.text("serviceName")
	if service == "" {
		return nil, reply.Bad("serviceName is required")
	}
	lookback := args.number("lookbackSeconds", 600, 7*24*3600)
	q := traces.Query{
		Service: service, Order: traces.OrderNewest, Limit: args.number("limit", 10, 100), End: a.Now().Add(time.Hour),
		Start: a.Now().Add(-time.Duration(lookback) * time.Second),
	}
	if args.text("errorOnly") == "true" {
		q.Status = "error"
	}
	found, err := a.Traces.Search(r.Context(), q)
	if err != nil {
		return nil, err
	}
	list, sum := []object{}, 0.0
	for i := range found {
		t := &found[i]
		sum += t.DurationMS
		list = append(list, object{
			"id": t.TraceID, "duration_ms": t.DurationMS, "spans_count": t.Spans, "root_op": t.RootOperation, "root_service": t.RootService, "has_errors": t.Errors > 0,
		})
	}
	return object{
		"summary": object{"namespace": args.text("namespace"), "service": service, "total_found": len(list), "avg_duration_ms": sum / float64(max(len(list), 1))},
		"traces":  list,
	}, nil
}

// hop is a span of a trace with those under it.
type hop struct {
	Service   string  `json:"service"`
	Op        string  `json:"op"`
	Duration  float64 `json:"duration_ms"`
	Status    int     `json:"status"`
	Direction string  `json:"direction,omitempty"`
	Offset    float64 `json:"offset_ms"`
	Error     string  `json:"error,omitempty"`
	Calls     []*hop  `json:"calls,omitempty"`
}

func (a *API) traceDetails(r *http.Request, args arguments) (any, error) {
	id := jaegerapi.FullID(args.text("traceId"))
	t, err := a.Traces.Trace(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, reply.Fail(http.StatusNotFound, "Trace not found")
	}
	spans := t.Spans[:min(len(t.Spans), maxRows)]
	first, last := spans[0].Start, spans[0].Start
	hops := map[string]*hop{} // bounded by maxRows
	for _, s := range spans {
		first = minTime(first, s.Start)
		if end := s.Start.Add(time.Duration(s.DurationMS * float64(time.Millisecond))); end.After(last) {
			last = end
		}
		h := &hop{Service: s.Service, Op: s.Name, Duration: s.DurationMS, Direction: map[string]string{"server": "inbound", "client": "outbound"}[strings.ToLower(s.Kind)]}
		h.Status, _ = strconv.Atoi(cmp.Or(s.Attributes["http.response.status_code"], s.Attributes["http.status_code"], s.Attributes["rpc.grpc.status_code"]))
		if s.Status == "error" {
			h.Error = cmp.Or(s.StatusMessage, "error")
		}
		hops[s.SpanID] = h
	}
	var root *hop
	for _, s := range spans {
		h := hops[s.SpanID]
		h.Offset = float64(s.Start.Sub(first)) / float64(time.Millisecond)
		if parent := hops[s.ParentID]; parent != nil && parent != h {
			parent.Calls = append(parent.Calls, h)
		} else if root == nil {
			root = h
		}
	}
	if root == nil {
		return nil, reply.Fail(http.StatusUnprocessableEntity, "the trace has no root")
	}
	return object{
		"trace_id": t.TraceID, "total_ms": float64(last.Sub(first)) / float64(time.Millisecond), "hierarchy": root,
		"omitted_spans": len(t.Spans) - len(spans) + t.DroppedSpans,
	}, nil
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// resources lists what the mesh consists of, or tells of one.
func (a *API) resources(r *http.Request, args arguments) (any, error) {
	values := url.Values{"namespaces": {cmp.Or(args.text("namespaces"), args.text("namespace"))}}
	kind, name := args.text("resourceType"), args.text("resourceName")
	if kind == "namespace" {
		all := a.allNamespaces()
		return object{"cluster": a.clusters()[0], "namespaces": all[:min(len(all), maxRows)], "total": len(all)}, nil
	}
	lists := map[string]func(*http.Request) (any, error){"app": a.apps, "workload": a.workloads, "service": a.services} // bounded: constant
	list := lists[kind]
	if list == nil {
		return nil, reply.Bad("resourceType must be one of app, workload, service, namespace")
	}
	answer, err := list(at(r, values))
	if err != nil {
		return nil, err
	}
	var items []item
	for _, value := range answer.(object) {
		if found, ok := value.([]item); ok {
			items = found
		}
	}
	if name != "" {
		if i := slices.IndexFunc(items, func(one item) bool { return one.Name == name }); i >= 0 {
			return items[i], nil
		}
		return nil, reply.Fail(http.StatusNotFound, kind+" "+name+" not found")
	}
	return object{"cluster": a.clusters()[0], kind + "s": items[:min(len(items), maxRows)], "total": len(items)}, nil
}

// metrics sums up what a resource got or asked for.
func (a *API) metrics(r *http.Request, args arguments) (any, error) {
	kind, namespace, name := cmp.Or(args.text("resourceType"), "workload"), args.text("namespace"), args.text("resourceName")
	if kinds[kind].by == "" || name == "" {
		return nil, reply.Bad("resourceType must be one of app, workload, service, and resourceName is required")
	}
	start, end, err := a.window(url.Values{"interval": {args.text("rateInterval")}}, "interval", 10*time.Minute)
	if err != nil {
		return nil, err
	}
	inbound := args.text("direction") == "inbound"
	var out object
	err = a.graphOf(r.Context(), start, end, kinds[kind].by, func(g *graph.Graph) {
		q := question{namespaces: []string{namespace}, start: start, end: end, tcpRate: "total"}
		for i, h := range judged(g) {
			if n := &g.Nodes[i]; n.Namespace == namespace && n.Name == name {
				out = object{"resource": kind + " " + namespace + "/" + name, "direction": "outbound", "health": h}
			}
		}
		if out == nil {
			return
		}
		if inbound {
			out["direction"] = "inbound"
		}
		rows := []object{}
		for _, f := range q.flows(g) {
			own, peer := &g.Nodes[f.source], &g.Nodes[f.target]
			if inbound {
				own, peer = peer, own
			}
			if own.Namespace == namespace && own.Name == name && len(rows) < maxRows {
				rows = append(rows, object{
					"peer": peer.Namespace + "/" + peer.Name, "protocol": f.Protocol, "rate": rateText(float64(f.all) / end.Sub(start).Seconds()),
					"error_percent": percent(f.errors()), "p95_ms": f.responseTime, "bytes_per_second": f.tcp,
				})
			}
		}
		out["traffic"] = rows
	})
	if err == nil && out == nil {
		err = reply.Fail(http.StatusNotFound, kind+" "+name+" not found")
	}
	return out, err
}
