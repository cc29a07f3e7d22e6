// Package kube finds ztunnels and waypoints through the Kubernetes API server: informers follow their pods and say what
// changed. What is read of a pod is what Pod holds and nothing else.
package kube
