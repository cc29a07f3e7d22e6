package requestlog

import (
	"regexp"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/semconv"
)

// Proxy is a waypoint or a gateway whose access log is read.
type Proxy struct {
	Gateway bool
	// Name is NAMESPACE/NAME; of a recording NAMESPACE-NAME, as its file is called.
	Name string
	// Namespace and Pod name the pod, if it is known.
	Namespace, Pod string
}

// podSuffix is what a Deployment's pods have behind its name.
var podSuffix = regexp.MustCompile(`(-[0-9a-z]{5,10})?-[0-9a-z]{5}$`)

// ProxyOfPod is a gateway by its pod.
func ProxyOfPod(namespace, pod string) Proxy {
	owner := podSuffix.ReplaceAllString(pod, "")
	if owner == "" {
		owner = pod
	}
	return Proxy{Gateway: true, Name: namespace + "/" + owner, Namespace: namespace, Pod: pod}
}

// PutAttributes writes what a resource says of the proxy.
func (p *Proxy) PutAttributes(attrs pcommon.Map) {
	attrs.EnsureCapacity(5)
	if p.Gateway {
		attrs.PutStr(semconv.AttrServiceName, semconv.ServiceNameGateway)
		attrs.PutStr(semconv.AttrGateway, p.Name)
		return
	}
	attrs.PutStr(semconv.AttrServiceName, semconv.ServiceNameWaypoint)
	attrs.PutStr(semconv.AttrWaypoint, p.Name)
}

// PutPod writes what a resource says of a pod and its cluster, as far as they are known.
func PutPod(attrs pcommon.Map, namespace, pod, cluster string) {
	if pod != "" {
		attrs.PutStr(semconv.AttrNamespaceName, namespace)
		attrs.PutStr(semconv.AttrPodName, pod)
	}
	if cluster != "" {
		attrs.PutStr(semconv.AttrClusterName, cluster)
	}
}
