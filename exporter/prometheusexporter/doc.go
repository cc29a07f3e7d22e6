// Package prometheusexporter is the collector's prometheus exporter, letting go of what it has taken over. It keeps the newest
// point of each series, and with it references to the batch that the point came in: all that ever came in one batch stays in
// memory until its last series has a newer point. The service graph sends thousands of edges at a time, of which some stay
// quiet for a minute; so the exporter held a minute of everything.
package prometheusexporter
