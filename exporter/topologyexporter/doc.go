//go:generate mdatagen metadata.yaml

// Package topologyexporter writes metrics, logs and traces into the store of the topology_query extension.
package topologyexporter
