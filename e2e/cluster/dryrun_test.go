package cluster

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nephilia/nephilia/e2e/cluster/internal/workload"
)

// TestServerSideDryRun lets the API server check whatever the chart renders: schema, defaults, validation, admission.
func TestServerSideDryRun(t *testing.T) {
	t.Parallel()
	s := scenario{name: "dry run", seed: 5, seconds: 5}
	c := newCluster(t, simulate(t, &s))
	for _, name := range []string{"istio-control", "ztunnel", "shop", "billing"} {
		c.createNamespace(t, name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	files, err := filepath.Glob(filepath.Join(repository, "deploy/helm/nephilia/ci/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no values (%v)", err)
	}
	checked := 0
	for _, file := range files {
		manifest, err := exec.Command(program(t, "NEPHILIA_E2E_HELM", "bin/tools/helm"), "template", release,
			filepath.Join(repository, "deploy/helm/nephilia"), "--namespace", namespace, "--kube-version", "1.36.1", "--values", file).Output()
		if err != nil {
			t.Fatalf("rendering with %s: %v", file, err)
		}
		objects, err := workload.Decode(manifest)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			switch object.GetKind() {
			case "ServiceMonitor", "PrometheusRule", "HTTPRoute", "SecurityContextConstraints":
				continue // their CRDs are not here; their Go types check them in the chart's own tests
			}
			if err := c.applier.DryRun(ctx, object); err != nil {
				t.Errorf("%s: %v", filepath.Base(file), err)
			}
			checked++
		}
	}
	for _, name := range []string{"base", "standalone"} {
		manifest, err := os.ReadFile(filepath.Join(repository, "deploy/kustomize", name, "nephilia.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		objects, err := workload.Decode(manifest)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			if err := c.applier.DryRun(ctx, object); err != nil {
				t.Errorf("kustomize %s: %v", name, err)
			}
			checked++
		}
	}
	t.Logf("%d objects", checked)
	if sets, err := c.control.Client.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{}); err != nil || len(sets.Items) > 0 {
		t.Errorf("a dry run left %d DaemonSets (%v)", len(sets.Items), err)
	}
}
