// Package prometheusremotewriteexporter is contrib's prometheus_remote_write exporter with one option more: exponential histograms may be sent as
// classic ones, for stores that do not take native histograms and refuse whatever comes with them.
package prometheusremotewriteexporter
