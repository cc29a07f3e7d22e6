// Package prometheusexporter is the collector's prometheus exporter, with the same type and options, for many series: it keeps the newest
// point of each series as Prometheus is told of it, its labels shared with other series, where contrib's keeps a metric with a map of
// attributes for each and translates all of them at each scrape.
package prometheusexporter
