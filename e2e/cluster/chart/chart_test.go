package chart

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	securityv1 "github.com/openshift/api/security/v1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const (
	repository = "../../.."
	chart      = repository + "/deploy/helm/nephilia"
)

// program returns a built program's path.
func program(t *testing.T, path, target string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("run make %s: %v", target, err)
	}
	return path
}

func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command(program(t, "bin/tools/helm", "tools"), args...).CombinedOutput()
	return string(out), err
}

func render(t *testing.T, values ...string) string {
	t.Helper()
	args := []string{"template", "nephilia", chart, "--namespace", "nephilia", "--kube-version", "1.36.1"}
	out, err := helm(t, append(args, values...)...)
	if err != nil {
		t.Fatalf("rendering: %v\n%s", err, out)
	}
	return out
}

// valuesFiles are the ways in which the chart is rendered.
func valuesFiles(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(chart, "ci", "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no values files (%v)", err)
	}
	files := map[string]string{}
	for _, path := range paths {
		files[strings.TrimSuffix(filepath.Base(path), ".yaml")] = path
	}
	return files
}

// decoded is every object of a rendering, by its Go type.
type decoded []runtime.Object

func objects[T runtime.Object](d decoded) (found []T) {
	for _, object := range d {
		if object, ok := object.(T); ok {
			found = append(found, object)
		}
	}
	return found
}

// decode reads every object strictly: unknown and duplicate fields are errors.
func decode(t *testing.T, manifest string) decoded {
	t.Helper()
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, monitoringv1.AddToScheme, gatewayv1.Install, securityv1.Install} {
		if err := add(kinds); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(kinds, serializer.EnableStrict).UniversalDeserializer()
	var all decoded
	for _, document := range strings.Split(manifest, "\n---\n") {
		if !strings.Contains(document, "\nkind: ") {
			continue
		}
		if strings.Contains(document, "\nkind: AuthorizationPolicy") {
			continue // of Istio, by whose CRD the API server checks it in the cluster's tests
		}
		object, _, err := decoder.Decode([]byte(document), nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		all = append(all, object)
	}
	return all
}

func TestLint(t *testing.T) {
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			if out, err := helm(t, "lint", "--strict", chart, "--values", values, "--kube-version", "1.36.1"); err != nil {
				t.Error(out)
			}
		})
	}
}

func TestObjects(t *testing.T) {
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			all := decode(t, render(t, "--values", values))
			if len(all) < 4 {
				t.Fatalf("only %d objects", len(all))
			}
			checkReferences(t, all)
			for pod, spec := range podSpecs(all) {
				checkSecurity(t, pod, spec, mayBeRoot[name+"/"+pod])
			}
			checkPolicies(t, all)
			checkBudgets(t, all)
		})
	}
}

// podSpecs are the pods that the objects describe, by the name of their controller.
func podSpecs(all decoded) map[string]*corev1.PodTemplateSpec {
	specs := map[string]*corev1.PodTemplateSpec{}
	for _, set := range objects[*appsv1.DaemonSet](all) {
		specs[set.Name] = &set.Spec.Template
	}
	for _, set := range objects[*appsv1.StatefulSet](all) {
		specs[set.Name] = &set.Spec.Template
	}
	for _, deployment := range objects[*appsv1.Deployment](all) {
		specs[deployment.Name] = &deployment.Spec.Template
	}
	return specs
}

// mayBeRoot are the pods of values that ask for root, or leave the choice of a user to the platform.
var mayBeRoot = map[string]bool{
	"node-positions/nephilia-agent": true, "talos/nephilia-agent": true, "openshift/nephilia-gateway": true,
}

// nodeFolders are what pods may mount of their node.
var nodeFolders = []string{"/var/log/pods", "/var/lib/docker/containers"}

// checkSecurity holds a pod to the restricted Pod Security Standard, but for the log's volume and, where it was asked for, root.
func checkSecurity(t *testing.T, name string, template *corev1.PodTemplateSpec, asRoot bool) {
	t.Helper()
	spec := &template.Spec
	if spec.HostNetwork || spec.HostPID || spec.HostIPC {
		t.Errorf("%s shares a namespace with its node", name)
	}
	security := spec.SecurityContext
	if security == nil || security.SeccompProfile == nil || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s has no seccomp profile", name)
	}
	if !asRoot && (security.RunAsNonRoot == nil || !*security.RunAsNonRoot || security.RunAsUser == nil || *security.RunAsUser == 0) {
		t.Errorf("%s runs as root", name)
	}
	for _, volume := range spec.Volumes {
		if volume.HostPath != nil && !slices.Contains(nodeFolders, volume.HostPath.Path) && !asRoot {
			t.Errorf("%s mounts %s of its node", name, volume.HostPath.Path)
		}
	}
	for i := range spec.Containers {
		container := &spec.Containers[i]
		c := container.SecurityContext
		switch {
		case c == nil || c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation:
			t.Errorf("%s may gain privileges", name)
		case c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem:
			t.Errorf("%s may write to its root", name)
		case c.Capabilities == nil || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(c.Capabilities.Add) > 0:
			t.Errorf("%s keeps capabilities", name)
		}
		if container.Resources.Limits.Memory().IsZero() || container.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%s does not say what it needs", name)
		}
		if container.LivenessProbe == nil || container.ReadinessProbe == nil || container.StartupProbe == nil {
			t.Errorf("%s lacks a probe", name)
		}
		for _, mount := range container.VolumeMounts {
			if slices.Contains(nodeFolders, mount.MountPath) && !mount.ReadOnly {
				t.Errorf("%s may write to its node's logs", name)
			}
		}
	}
}

// checkReferences finds names of objects that nobody creates, and selectors that find nothing.
func checkReferences(t *testing.T, all decoded) {
	t.Helper()
	configMaps, accounts := map[string]bool{"istio-ca-root-cert": true}, map[string]bool{"default": true}
	for _, c := range objects[*corev1.ConfigMap](all) {
		configMaps[c.Name] = true
	}
	for _, a := range objects[*corev1.ServiceAccount](all) {
		accounts[a.Name] = true
	}
	specs := podSpecs(all)
	claims := map[string][]corev1.PersistentVolumeClaim{}
	for _, set := range objects[*appsv1.StatefulSet](all) {
		claims[set.Name] = set.Spec.VolumeClaimTemplates
	}
	for name, template := range specs {
		if !accounts[template.Spec.ServiceAccountName] {
			t.Errorf("%s runs as %q, which nobody creates", name, template.Spec.ServiceAccountName)
		}
		volumes := map[string]bool{}
		for _, claim := range claims[name] {
			volumes[claim.Name] = true
		}
		for _, volume := range template.Spec.Volumes {
			volumes[volume.Name] = true
			if volume.ConfigMap != nil && !configMaps[volume.ConfigMap.Name] {
				t.Errorf("%s mounts ConfigMap %q, which nobody creates", name, volume.ConfigMap.Name)
			}
		}
		mounted := map[string]bool{}
		for _, mount := range template.Spec.Containers[0].VolumeMounts {
			mounted[mount.Name] = true
		}
		if !maps.Equal(volumes, mounted) {
			t.Errorf("%s has volumes %v and mounts %v", name, volumes, mounted)
		}
	}
	for _, service := range objects[*corev1.Service](all) {
		found := false
		for _, template := range specs {
			found = found || contains(template.Labels, service.Spec.Selector) && hasPorts(template, service)
		}
		if !found {
			t.Errorf("Service %s finds no pod with its ports", service.Name)
		}
	}
	for _, monitor := range objects[*monitoringv1.ServiceMonitor](all) {
		found := false
		for _, service := range objects[*corev1.Service](all) {
			named := slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == monitor.Spec.Endpoints[0].Port })
			found = found || named && contains(service.Labels, monitor.Spec.Selector.MatchLabels)
		}
		if !found {
			t.Errorf("ServiceMonitor %s finds no Service", monitor.Name)
		}
	}
}

func contains(labels, wanted map[string]string) bool {
	for name, value := range wanted {
		if labels[name] != value {
			return false
		}
	}
	return true
}

func hasPorts(template *corev1.PodTemplateSpec, service *corev1.Service) bool {
	for _, port := range service.Spec.Ports {
		if !slices.ContainsFunc(template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.StrVal }) {
			return false
		}
	}
	return true
}

// checkBudgets wants each PodDisruptionBudget to select a pod.
func checkBudgets(t *testing.T, all decoded) {
	t.Helper()
	for _, budget := range objects[*policyv1.PodDisruptionBudget](all) {
		found := false
		for _, template := range podSpecs(all) {
			found = found || contains(template.Labels, budget.Spec.Selector.MatchLabels)
		}
		if !found {
			t.Errorf("PodDisruptionBudget %s selects no pod", budget.Name)
		}
	}
}

// tunnelPort is where what one pod of the mesh sends to another arrives.
const tunnelPort = 15008

// checkPolicies wants each NetworkPolicy to select a pod and to let in only what that listens to, and each pod to be selected by one
// if there are any.
func checkPolicies(t *testing.T, all decoded) {
	t.Helper()
	policies := objects[*networkingv1.NetworkPolicy](all)
	if len(policies) == 0 {
		return
	}
	for name, template := range podSpecs(all) {
		if !slices.ContainsFunc(policies, func(p *networkingv1.NetworkPolicy) bool {
			return contains(template.Labels, p.Spec.PodSelector.MatchLabels)
		}) {
			t.Errorf("no NetworkPolicy protects %s", name)
		}
		for _, p := range policies {
			if !contains(template.Labels, p.Spec.PodSelector.MatchLabels) {
				continue
			}
			for _, rule := range p.Spec.Ingress {
				checkIngress(t, p.Name, &rule, &template.Spec.Containers[0])
			}
		}
	}
}

func checkIngress(t *testing.T, policy string, rule *networkingv1.NetworkPolicyIngressRule, container *corev1.Container) {
	t.Helper()
	if len(rule.Ports) == 0 {
		t.Errorf("NetworkPolicy %s opens all ports", policy)
	}
	for _, port := range rule.Ports {
		listens := slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == port.Port.IntVal })
		if !listens && port.Port.IntVal != tunnelPort {
			t.Errorf("NetworkPolicy %s opens %s, to which nobody listens", policy, port.Port)
		}
	}
}

// TestConfigurations lets the binary check every configuration that the chart renders, with the variables of its pod.
func TestConfigurations(t *testing.T) {
	binary := program(t, "bin/otelcol-nephilia", "build")
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			all := decode(t, render(t, "--values", values))
			maps := map[string]*corev1.ConfigMap{}
			for _, c := range objects[*corev1.ConfigMap](all) {
				maps[c.Name] = c
			}
			for pod, template := range podSpecs(all) {
				validate(t, binary, pod, &template.Spec, maps)
			}
		})
	}
}

func validate(t *testing.T, binary, pod string, spec *corev1.PodSpec, configMaps map[string]*corev1.ConfigMap) {
	t.Helper()
	folder := t.TempDir()
	container := &spec.Containers[0]
	for _, volume := range spec.Volumes {
		if volume.Name != "config" {
			continue
		}
		for name, content := range configMaps[volume.ConfigMap.Name].Data {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	args := []string{"validate"}
	for _, arg := range container.Args {
		args = append(args, strings.ReplaceAll(arg, "/etc/nephilia/", folder+"/"))
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = []string{"NODE_NAME=node-a"}
	ip := "10.0.0.1"
	if slices.ContainsFunc(container.Env, func(v corev1.EnvVar) bool { return v.Name == "POD_ADDRESS" }) {
		ip = "[fd00::1]"
	}
	address := strings.NewReplacer("$(POD_IP)", ip, "[$(POD_ADDRESS)]", ip)
	for _, variable := range container.Env {
		value := variable.Value
		if variable.ValueFrom != nil {
			value = "10.0.0.1"
		}
		cmd.Env = append(cmd.Env, variable.Name+"="+address.Replace(value))
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: %v\n%s", pod, err, out.String())
	}
}

// TestOneSource holds the chart's files to those that everybody else uses.
func TestOneSource(t *testing.T) {
	sources := map[string]string{"nephilia.rules.yaml": "deploy/alerts"}
	for _, name := range []string{"agent.yaml", "gateway.yaml", "standalone.yaml"} {
		sources[name] = "config"
	}
	dashboards, err := filepath.Glob(filepath.Join(repository, "deploy/grafana/*.json"))
	if err != nil || len(dashboards) == 0 {
		t.Fatalf("no dashboards (%v)", err)
	}
	for _, path := range dashboards {
		sources["dashboards/"+filepath.Base(path)] = "deploy/grafana"
	}
	for name, folder := range sources {
		if ours, theirs := read(t, "deploy/helm/nephilia/files/"+name), read(t, folder+"/"+filepath.Base(name)); ours != theirs {
			t.Errorf("the chart's %s is not %s's: run make deploy", name, folder)
		}
	}
	own, err := filepath.Glob(filepath.Join(chart, "files", "dashboards", "*"))
	if err != nil || len(own) != len(dashboards) {
		t.Errorf("the chart holds dashboards %v (%v)", own, err)
	}
}

var update = flag.Bool("update", false, "write what is rendered from the chart")

// TestKustomize holds the kustomize bases to the chart.
func TestKustomize(t *testing.T) {
	for name, values := range map[string]string{"base": "mode=agents", "standalone": "mode=standalone"} {
		t.Run(name, func(t *testing.T) {
			want := kustomized(render(t, "--set", values))
			path := filepath.Join(repository, "deploy/kustomize", name, "nephilia.yaml")
			if *update {
				if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != want {
				t.Errorf("deploy/kustomize/%s is not what the chart renders: run make deploy", name)
			}
			decode(t, build(t, filepath.Join(repository, "deploy/kustomize", name)))
		})
	}
}

// kustomized takes out what only Helm wants to know.
func kustomized(manifest string) string {
	var b strings.Builder
	b.WriteString("# Rendered from deploy/helm/nephilia by make deploy.\n")
	for line := range strings.Lines(manifest) {
		if strings.HasPrefix(line, "# Source: ") || strings.Contains(line, "app.kubernetes.io/managed-by:") || strings.Contains(line, "helm.sh/chart:") {
			continue
		}
		if strings.TrimSpace(line) == "" {
			continue // what templates leave behind that have nothing to say
		}
		b.WriteString(line)
	}
	return b.String()
}
