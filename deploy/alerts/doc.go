// Package alerts holds the alert rules that ship to the metrics that there are.
package alerts
