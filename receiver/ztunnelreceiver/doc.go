// Package ztunnelreceiver takes in what the ztunnels of an Istio ambient mesh and istiod say: access logs, metrics and
// config dumps of ztunnels, metrics of waypoints, the mesh's state over xDS; live, or from a recording.
// docs/data-model.md says what it makes of them.
package ztunnelreceiver
