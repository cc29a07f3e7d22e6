// Package xds reads a mesh's state from istiod as a ztunnel does: delta ADS with a wildcard subscription to
// istio.workload.Address (workloads and services) and istio.security.Authorization (policies).
//
// Mesh turns delta responses into entity events and is pure; Client keeps a stream to istiod and feeds a Mesh;
// ReadJSON and ReadBinary read recorded responses.
//
// Sources: istio/istio pkg/workloadapi/*.proto, istio/ztunnel src/xds/client.rs and src/state/*.rs, and the xDS
// protocol at https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol.
package xds
