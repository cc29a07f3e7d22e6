// Package e2e tests the built otelcol-nephilia together with what stands beside it in real life: a Prometheus that
// scrapes it, takes its remote write and answers for the past, and an OTLP endpoint that takes its traces.
//
// The binary is bin/otelcol-nephilia (make build) or NEPHILIA_BINARY; Prometheus is Debian's package.
package e2e
