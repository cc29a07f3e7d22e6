//go:generate mdatagen metadata.yaml

// Package topologyquery serves the topology API and the web UI: the live service graph from memory, its past through
// PromQL, outages, traces, flows and the mesh's state. The topology exporter writes into it.
package topologyquery
