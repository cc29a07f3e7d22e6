// Package attacks tests the built otelcol-nephilia with its shipped configurations against what is wrong, hostile or too much: clocks,
// restarts, floods, forgeries, slow clients and damaged disks. Each test counts for itself what it sent.
//
// The binary is bin/otelcol-nephilia (make build) or NEPHILIA_BINARY. Where a test needs a file system of its own, it is left out unless
// run as root. TestChaos does all at random: see docs/reliability.md.
package attacks
