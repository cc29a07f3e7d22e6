package controlplane

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// IstioNamespace is where istiod and the ztunnels live.
const IstioNamespace = "istio-system"

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// prepareIstio creates what `istioctl install` would: the CRDs and istiod's namespace.
func (c *ControlPlane) prepareIstio(ctx context.Context) error {
	file, err := os.Open(c.options.CRDs)
	if err != nil {
		return fmt.Errorf("opening Istio's CRDs: %w", err)
	}
	defer file.Close()
	decoder := utilyaml.NewYAMLOrJSONDecoder(bufio.NewReader(file), 4096)
	for {
		crd := &unstructured.Unstructured{}
		err := decoder.Decode(crd)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading Istio's CRDs: %w", err)
		}
		if len(crd.Object) == 0 {
			continue
		}
		if _, err := c.Dynamic.Resource(crds).Create(ctx, crd, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating CRD %s: %w", crd.GetName(), err)
		}
	}
	_, err = c.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: IstioNamespace}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating %s: %w", IstioNamespace, err)
	}
	return nil
}

// StartIstiod starts istiod with its own certificate authority: it serves xDS with TLS to whoever has a token of a
// service account with audience istio-ca, which it lets the API server review.
func (c *ControlPlane) StartIstiod() error {
	address := c.options.Namespace.Address.String()
	var err error
	c.istiod, err = c.run("istiod", c.options.Istiod,
		[]string{
			"POD_NAME=istiod-0", "POD_NAMESPACE=" + IstioNamespace, "POD_IP=" + address, "SERVICE_ACCOUNT=istiod",
			"CLUSTER_ID=Kubernetes", "PILOT_ENABLE_AMBIENT=true", "INJECT_ENABLED=false",
			"VALIDATION_WEBHOOK_CONFIG_NAME=", "INJECTION_WEBHOOK_CONFIG_NAME=",
			"KUBERNETES_SERVICE_HOST=" + address, "KUBERNETES_SERVICE_PORT=6443",
			"PILOT_CERT_PROVIDER=istiod", "HOME=" + c.options.Folder,
		},
		"discovery", "--kubeconfig="+c.kubeconfig, "--domain=cluster.local", "--keepaliveMaxServerConnectionAge="+cmp.Or(c.options.ConnectionAge, 30*time.Minute).String(),
		"--log_output_level=default:info", "--ctrlz_port=0")
	return err
}

// AwaitIstiod waits until istiod says that it is ready.
func (c *ControlPlane) AwaitIstiod(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{DialContext: c.options.Namespace.DialContext, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	return c.poll(ctx, "istiod", c.istiod, func() error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8080/ready", http.NoBody)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("istiod answers %s", response.Status)
		}
		return nil
	})
}

// KillIstiod ends istiod without warning.
func (c *ControlPlane) KillIstiod() { c.istiod.Kill() }
