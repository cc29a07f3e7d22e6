package kialiapi

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/reply"
	"github.com/nephilia/nephilia/internal/mesh"
)

// details tell of one app, workload or service, and of what Kiali reads from Istio's configuration as far as ztunnels know it: lists of what
// they do not know are empty, and mutual TLS is UNSET, since who demands it is not known.
type details struct{ *API }

func (a details) routes() map[string]http.Handler {
	return map[string]http.Handler{
		"/api/istio/status":                              answers(a.components),
		"/api/istio/config":                              answers(a.istioConfig),
		"/api/istio/validations":                         answers(func(*http.Request) (any, error) { return []any{}, nil }),
		"/api/mesh/tls":                                  answers(func(*http.Request) (any, error) { return unsetTLS("", ""), nil }),
		"/api/clusters/tls":                              answers(a.clustersTLS),
		"/api/grafana":                                   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		"/api/namespaces/{namespace}/apps/{name}":        answers(a.app),
		"/api/namespaces/{namespace}/workloads/{name}":   answers(a.workload),
		"/api/namespaces/{namespace}/services/{service}": answers(a.service),
	}
}

func unsetTLS(cluster, namespace string) object {
	out := object{"status": "UNSET", "autoMTLSEnabled": true, "minTLS": "N/A"}
	if namespace != "" {
		out["cluster"], out["namespace"] = cluster, namespace
	}
	return out
}

func (a details) clustersTLS(r *http.Request) (any, error) {
	wanted, list := namespacesOf(r.URL.Query()), []object{}
	for _, one := range a.allNamespaces() {
		if len(wanted) == 0 || slices.Contains(wanted, one.Name) {
			list = append(list, unsetTLS(one.Cluster, one.Name))
		}
	}
	return list, nil
}

// components are those of Istio that are not well; what is not told of is not said to be.
func (a details) components(*http.Request) (any, error) {
	list := []object{}
	for _, z := range a.ztunnels() {
		if !z.up {
			list = append(list, object{"cluster": cmp.Or(z.ClusterID, home), "name": cmp.Or(z.Name, "ztunnel"), "status": "Unreachable", "isCore": true})
		}
	}
	return list, nil
}

// istioConfig lists the policies that ztunnels enforce.
func (a details) istioConfig(r *http.Request) (any, error) {
	const kind = "security.istio.io/v1, Kind=AuthorizationPolicy"
	wanted, policies := namespacesOf(r.URL.Query()), []object{}
	for _, p := range a.Mesh.Policies() {
		if len(wanted) == 0 || slices.Contains(wanted, p.Namespace) {
			policies = append(policies, policyOf(p))
		}
	}
	return object{"permissions": object{}, "resources": object{kind: policies}, "validations": object{}}, nil
}

func policyOf(p *mesh.Policy) object {
	spec := object{"action": p.Action}
	if rules := json.RawMessage(p.Rules); json.Valid(rules) {
		spec["rules"] = rules
	}
	return object{
		"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": object{"name": p.Name, "namespace": p.Namespace}, "spec": spec, "status": object{},
	}
}

// found is the item of a list that a path names.
func found(r *http.Request, answer any, err error, kind, key, name string) (*item, error) {
	if err != nil {
		return nil, err
	}
	items, _ := answer.(object)[key].([]item)
	namespace := r.PathValue("namespace")
	if i := slices.IndexFunc(items, func(one item) bool { return one.Name == name && one.Namespace == namespace }); i >= 0 {
		return &items[i], nil
	}
	return nil, reply.Fail(http.StatusNotFound, kind+" "+name+" not found in namespace "+namespace)
}

func (a details) app(r *http.Request) (any, error) {
	answer, err := a.apps(r)
	one, err := found(r, answer, err, "app", "applications", r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	workloads, services := []object{}, []string{}
	for _, w := range a.Mesh.Workloads() {
		if w.Namespace != one.Namespace || w.App != one.Name {
			continue
		}
		workloads = append(workloads, object{
			"workloadName": w.Name.Name, "istioSidecar": false, "isAmbient": w.InMesh, "isGateway": false, "isWaypoint": false, "isZtunnel": false,
			"labels": labelsOf(w), "serviceAccountNames": accounts(w),
		})
		for _, name := range servicesOf(w) {
			if !slices.Contains(services, name) {
				services = append(services, name)
			}
		}
	}
	slices.Sort(services)
	return object{
		"namespace": object{"name": one.Namespace}, "name": one.Name, "cluster": one.Cluster, "isAmbient": one.Ambient, "health": one.Health, "workloads": workloads,
		"serviceNames": services, "runtimes": []any{},
	}, nil
}

func (a details) workload(r *http.Request) (any, error) {
	answer, err := a.workloads(r)
	one, err := found(r, answer, err, "workload", "workloads", r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	all := a.Mesh.Workloads()
	w := all[slices.IndexFunc(all, func(w *inventory.Workload) bool { return w.Namespace == one.Namespace && w.Name.Name == one.Name })]
	pods, services, running := []object{}, []object{}, replicas(w)
	for _, p := range w.Pods {
		phase := "Running"
		if !p.Healthy {
			phase = "NotReady"
		}
		pods = append(pods, object{
			"name": p.Name, "labels": labelsOf(w), "status": phase, "serviceAccountName": p.ServiceAccount, "protocol": p.TunnelProtocol,
			"containers": []any{}, "istioContainers": []any{}, "istioInitContainers": []any{}, "annotations": object{},
		})
	}
	for _, name := range servicesOf(w) {
		services = append(services, object{"name": name, "namespace": w.Namespace, "cluster": one.Cluster, "isAmbient": w.InMesh, "labels": object{}})
	}
	return object{
		"name": one.Name, "namespace": one.Namespace, "cluster": one.Cluster, "gvk": object{"Group": "", "Version": "", "Kind": w.Kind}, "labels": one.Labels,
		"isAmbient": one.Ambient, "istioSidecar": false, "isGateway": false, "isWaypoint": false, "isZtunnel": false, "appLabel": one.AppLabel, "versionLabel": one.Version,
		"podCount": len(pods), "pods": pods, "services": services, "health": one.Health, "serviceAccountNames": accounts(w),
		"desiredReplicas": running.Desired, "currentReplicas": running.Current, "availableReplicas": running.Available,
		"runtimes": []any{}, "additionalDetails": []any{}, "validations": object{}, "waypointServices": []any{}, "waypointWorkloads": []any{}, "workloadEntries": []any{},
		"annotations": object{}, "istioReferences": []any{},
	}, nil
}

func (a details) service(r *http.Request) (any, error) {
	answer, err := a.services(r)
	one, err := found(r, answer, err, "service", "services", r.PathValue("service"))
	if err != nil {
		return nil, err
	}
	workloads, addresses, ports, hostname := []object{}, []string{}, []object{}, ""
	for _, s := range a.Mesh.Services() {
		if s.Namespace != one.Namespace || s.Name != one.Name {
			continue
		}
		addresses, hostname = s.Addresses, s.Hostname
		for _, p := range s.Ports {
			ports = append(ports, object{"name": "", "protocol": "TCP", "port": p.ServicePort})
		}
	}
	for _, w := range a.Mesh.Workloads() {
		if w.Namespace == one.Namespace && slices.Contains(servicesOf(w), one.Name) {
			workloads = append(workloads, object{"name": w.Name.Name, "namespace": w.Namespace, "cluster": one.Cluster, "isAmbient": w.InMesh, "labels": labelsOf(w), "podCount": len(w.Pods)})
		}
	}
	return object{
		"service": object{
			"name": one.Name, "namespace": object{"name": one.Namespace}, "cluster": one.Cluster, "hostnames": []string{hostname}, "ip": strings.Join(addresses, ", "), "ports": ports,
			"type": "", "labels": object{}, "selectors": object{}, "additionalDetails": []any{},
		},
		"isAmbient": one.Ambient, "istioSidecar": false, "health": one.Health, "workloads": workloads, "namespaceMTLS": unsetTLS(one.Cluster, one.Namespace),
		"endpoints": []any{}, "destinationRules": []any{}, "virtualServices": []any{}, "serviceEntries": []any{}, "subServices": []any{}, "waypointWorkloads": []any{},
		"k8sGRPCRoutes": []any{}, "k8sHTTPRoutes": []any{}, "k8sInferencePools": []any{}, "k8sReferenceGrants": []any{}, "validations": object{}, "istioPermissions": object{},
	}, nil
}

// servicesOf are the names of a workload's own services.
func servicesOf(w *inventory.Workload) []string {
	var names []string
	for _, pod := range w.Pods {
		for key := range pod.Services {
			if namespace, host, _ := strings.Cut(key, "/"); namespace == w.Namespace {
				name, _, _ := strings.Cut(host, ".")
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// accounts are the names of a workload's service accounts.
func accounts(w *inventory.Workload) []string {
	names := []string{}
	for _, pod := range w.Pods {
		if pod.ServiceAccount != "" && !slices.Contains(names, pod.ServiceAccount) {
			names = append(names, pod.ServiceAccount)
		}
	}
	return names
}
