//go:generate mdatagen metadata.yaml

// Package outagealertexporter pushes outages to an Alertmanager: it keeps those that are open, tells of them again and again, and of
// each one's end.
package outagealertexporter
