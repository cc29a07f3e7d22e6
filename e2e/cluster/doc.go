// Package cluster tests the product in a cluster of real parts; see README.md.
package cluster
