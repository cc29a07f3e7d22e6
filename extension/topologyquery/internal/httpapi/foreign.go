package httpapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/jaegerapi"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/kialiapi"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/mcpapi"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/promapi"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
)

// prometheusPattern are the paths of Prometheus's API.
const prometheusPattern = promapi.Prefix + "/"

// mcpPaths are where assistants find their tools, as Jaeger has it and as is usual.
var mcpPaths = []string{"/api/ai/mcp", "/mcp"}

// posted tells whether a path is asked by POST: queries of Prometheus's API, whose clients post them as forms, and calls of tools.
func posted(path string) bool {
	return strings.HasPrefix(path, prometheusPattern) || slices.Contains(mcpPaths, strings.TrimSuffix(path, "/")) ||
		strings.HasPrefix(path, strings.TrimSuffix(kialiapi.ChatPattern, "{tool}"))
}

// foreign are the APIs of other tools, by pattern.
func foreign(all *stores.Stores, settings *Settings, graphs *graphs) map[string]http.Handler {
	now := func() time.Time {
		if now := graphs.ranges.now(); now > 0 {
			return time.UnixMilli(now).UTC()
		}
		return time.Now().UTC()
	}
	jaeger := &jaegerapi.API{Traces: all.Traces, Charts: all.Past, Now: now}
	routes := jaeger.Routes()
	kiali := &kialiapi.API{
		Version: settings.Build.Version, Mesh: all.Inventory, Graphs: graphs, Outages: all.Outages, Sources: all.Sources, Traces: all.Traces,
		Now: now, Retention: settings.Retention,
	}
	maps.Copy(routes, kiali.Routes())
	assistants := mcpapi.New(mcpapi.Settings{
		Version: settings.Build.Version, Outages: all.Outages, Changes: all.Changes, Mesh: all.Inventory, Flows: all.Flows, Traces: all.Traces,
		Graphs: graphs, Sources: all.Sources, Engine: all.Past.Engine(), MaxRange: settings.Limits.MaxRange, Wall: time.Now,
	})
	for _, path := range mcpPaths {
		routes[path] = assistants
	}
	routes["/mcp/{$}"] = assistants
	if settings.Prometheus != nil {
		routes[prometheusPattern] = settings.Prometheus
	}
	return routes
}
