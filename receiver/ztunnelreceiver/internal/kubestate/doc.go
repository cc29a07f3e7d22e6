// Package kubestate follows what a mesh runs on (workloads, pods, nodes, events of type Warning) through the Kubernetes API server
// and tells of changes that may be behind an outage. It keeps no history and tells of no state, only of what is new: xDS
// tells what there is.
//
// ReplicaSets are not followed: a Deployment says itself what it rolls out, and a cluster holds ten times as many of them.
package kubestate
