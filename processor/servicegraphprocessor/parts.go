package servicegraphprocessor

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/alongside"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/als"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/appspan"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/dns"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/flows"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/proxylog"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/requests"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/scraped"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/spanjoin"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// parts hold the graph's state. Each adds to those before it.
type parts struct {
	names     *naming.Directory
	origins   appspan.Origins
	store     *edges.Store
	flows     *flows.Table
	scraped   *scraped.Table
	proxied   *proxylog.Table
	als       *als.Reader
	waypoints *requests.Waypoints
	requests  *requests.Table
	spans     *spanjoin.Table
	dns       *dns.Table
	alongside *alongside.Table
}

func newParts(cfg *Config, clock *datatime.Clock, version string, t *telemetry.Telemetry) parts {
	limits := reconcile.Limits{Window: cfg.Reconcile.SettleWindow, Skew: cfg.Reconcile.MaxSkew, Hold: cfg.Reconcile.ReasonHold}
	var p parts
	p.names = naming.NewDirectory(naming.Config{
		MaxEntities: cfg.MaxEntities, MaxExternal: cfg.MaxExternal, MaxWeights: cfg.MaxEdges, Hold: cfg.ResolveHold,
	})
	p.store = edges.NewStore(edges.Config{
		MaxEdges: cfg.MaxEdges, MaxRoutes: cfg.Requests.MaxRoutes, MaxPorts: cfg.MaxPortsPerPair, MaxEndpoints: cfg.MaxEntities,
		Buckets: cfg.Requests.LatencyBuckets, Refresh: cfg.RefreshInterval, Expiry: cfg.EdgeExpiry, Version: version,
	}, p.names.Externals, t)
	p.flows = flows.NewTable(flows.Config{
		MaxFlows: cfg.MaxFlows, ResolveHold: cfg.ResolveHold, Expiry: cfg.EdgeExpiry, Reconcile: limits,
	}, p.names, p.store, clock, t)
	p.scraped = scraped.NewTable(scraped.Config{
		MaxSeries: cfg.MaxFlows, ResolveHold: cfg.ResolveHold, Expiry: cfg.EdgeExpiry, Reconcile: limits,
	}, p.names, p.store, p.flows, t)
	p.proxied = proxylog.NewTable(proxylog.Config{
		MaxRequests: cfg.Requests.MaxSpans, Wait: cfg.Requests.Wait, ResolveHold: cfg.ResolveHold, Expiry: cfg.EdgeExpiry,
	}, p.names, p.store, t)
	format, _ := cfg.Requests.accessLogFormat() // Validate has said what is wrong with it
	p.als = als.NewReader(format, p.names, p.proxied, t)
	p.waypoints = requests.NewWaypoints(requests.WaypointsConfig{
		MaxSeries: cfg.MaxFlows, Wait: cfg.Requests.Wait, Expiry: cfg.EdgeExpiry, Reconcile: limits,
	}, p.names, p.store, p.proxied, t)
	p.requests = requests.NewTable(requests.Config{
		Wait: cfg.Requests.Wait, MaxSpans: cfg.Requests.MaxSpans, ConnectionWait: cfg.FlowSpans.ApplicationWait,
	}, p.names, p.store, p.waypoints, t)
	p.spans = spanjoin.NewTable(spanjoin.Config{
		Wait: cfg.FlowSpans.Wait, RequestWait: cfg.FlowSpans.ApplicationWait, MaxSpans: cfg.FlowSpans.MaxSpans, MaxSkew: cfg.FlowSpans.MaxSkew,
	}, p.names, p.requests.Sent, t)
	p.dns = dns.NewTable(dns.Config{MaxSeries: cfg.MaxFlows, Refresh: cfg.RefreshInterval, Expiry: cfg.EdgeExpiry}, p.names, t)
	p.alongside = alongside.NewTable(alongside.Config{
		MaxEdges: cfg.MaxEdges, MaxSeries: cfg.MaxFlows, Refresh: cfg.RefreshInterval, Expiry: cfg.EdgeExpiry,
	}, p.names, t)
	return p
}

// rewind takes note that the clock went back to a time: nothing was seen, and nothing is due, any later than it would be then.
func (p *parts) rewind(now pcommon.Timestamp) {
	p.names.Weights.Rewind(now)
	p.store.Rewind(now)
	p.flows.Rewind(now)
	p.scraped.Rewind(now)
	p.proxied.Rewind(now)
	p.waypoints.Rewind(now)
	p.requests.Rewind(now)
	p.spans.Rewind(now)
	p.dns.Rewind(now)
	p.alongside.Rewind(now)
}
