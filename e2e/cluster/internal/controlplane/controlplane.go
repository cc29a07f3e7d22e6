// Package controlplane runs a real etcd, kube-apiserver and istiod in one namespace of a network.
package controlplane

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/nephilia/nephilia/e2e/cluster/internal/network"
	"github.com/nephilia/nephilia/e2e/cluster/internal/process"
)

// ServiceAddress is the API server's virtual address, the first of the services' range.
var ServiceAddress = netip.MustParseAddr("10.96.0.1")

// Options say where the programs are.
type Options struct {
	Folder    string // for data, certificates and logs
	APIServer string // path of kube-apiserver
	Istiod    string // path of pilot-discovery
	CRDs      string // path of Istio's CRDs
	Namespace *network.Namespace
	// ConnectionAge is how long istiod lets an xDS connection live; 30 minutes by default, as in real installations.
	ConnectionAge time.Duration
}

// ControlPlane is a running API server and istiod.
type ControlPlane struct {
	Authority *Authority
	// Config is the administrator's. It connects from within the control plane's namespace.
	Config  *rest.Config
	Client  kubernetes.Interface
	Dynamic dynamic.Interface

	options    Options
	kubeconfig string
	etcd       *process.Process
	apiServer  *process.Process
	istiod     *process.Process
}

// Start starts everything and returns when the API server and istiod are ready.
func Start(ctx context.Context, options Options) (_ *ControlPlane, err error) {
	c := &ControlPlane{options: options}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := os.MkdirAll(options.Folder, 0o755); err != nil {
		return nil, fmt.Errorf("making the control plane's folder: %w", err)
	}
	if c.Authority, err = newAuthority(options.Folder); err != nil {
		return nil, err
	}
	if err := c.startEtcd(); err != nil {
		return nil, err
	}
	if err := c.startAPIServer(); err != nil {
		return nil, err
	}
	if err := c.connect(); err != nil {
		return nil, err
	}
	if err := c.awaitAPIServer(ctx); err != nil {
		return nil, err
	}
	if err := c.prepareIstio(ctx); err != nil {
		return nil, err
	}
	if err := c.StartIstiod(); err != nil {
		return nil, err
	}
	return c, c.AwaitIstiod(ctx)
}

// Stop ends all processes.
func (c *ControlPlane) Stop() error {
	var errs []error
	for _, p := range []*process.Process{c.istiod, c.apiServer, c.etcd} {
		if p != nil {
			errs = append(errs, p.Stop(30*time.Second))
		}
	}
	return errors.Join(errs...)
}

func (c *ControlPlane) run(name, path string, env []string, args ...string) (*process.Process, error) {
	return process.Start(process.Program{
		Name: name, Namespace: c.options.Namespace, Path: path, Args: args, Env: env,
		Dir: c.options.Folder, Log: c.path(name + ".log"),
	})
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.options.Folder, name) }

func (c *ControlPlane) startEtcd() error {
	path, err := exec.LookPath("etcd")
	if err != nil {
		return fmt.Errorf("etcd is not installed: apt-get install etcd-server: %w", err)
	}
	c.etcd, err = c.run("etcd", path, nil,
		"--data-dir="+c.path("etcd"),
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=default=http://127.0.0.1:2380",
		// A test's cluster does not outlive a crash of the machine.
		"--unsafe-no-fsync")
	return err
}

func (c *ControlPlane) startAPIServer() error {
	address := c.options.Namespace.Address
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	certificate, key, err := c.Authority.Issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}, names,
		address, ServiceAddress, netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		return err
	}
	kubeletCertificate, kubeletKey, err := c.Authority.Issue("apiserver-kubelet-client", pkix.Name{CommonName: "kube-apiserver-kubelet-client"}, nil)
	if err != nil {
		return err
	}
	private, public, err := newAccountKey(c.options.Folder)
	if err != nil {
		return err
	}
	c.apiServer, err = c.run("kube-apiserver", c.options.APIServer, nil,
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address="+address.String(), "--bind-address=0.0.0.0", "--secure-port=6443",
		"--tls-cert-file="+certificate, "--tls-private-key-file="+key,
		"--client-ca-file="+c.Authority.Path(),
		"--service-cluster-ip-range=10.96.0.0/12", "--endpoint-reconciler-type=none",
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+public, "--service-account-signing-key-file="+private,
		"--kubelet-certificate-authority="+c.Authority.Path(),
		"--kubelet-client-certificate="+kubeletCertificate, "--kubelet-client-key="+kubeletKey,
		"--kubelet-preferred-address-types=InternalIP",
		"--profiling=false")
	return err
}

// connect prepares the administrator's client.
func (c *ControlPlane) connect() error {
	certificate, key, err := c.Authority.Issue("admin", pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, nil)
	if err != nil {
		return err
	}
	c.Config = &rest.Config{
		Host:            "https://" + c.options.Namespace.Address.String() + ":6443",
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.Authority.Path(), CertFile: certificate, KeyFile: key},
		Dial:            c.options.Namespace.DialContext,
		QPS:             -1,
	}
	if c.Client, err = kubernetes.NewForConfig(c.Config); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if c.Dynamic, err = dynamic.NewForConfig(c.Config); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	c.kubeconfig = c.path("kubeconfig")
	content := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: admin
clusters: [{name: test, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: admin, user: {client-certificate: %q, client-key: %q}}]
contexts: [{name: admin, context: {cluster: test, user: admin}}]
`, c.Config.Host, c.Authority.Path(), certificate, key)
	return os.WriteFile(c.kubeconfig, []byte(content), 0o600)
}

// poll tries until it works, the process ends or the context is done.
func (c *ControlPlane) poll(ctx context.Context, what string, p *process.Process, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %w", what, ctx.Err(), err)
		case <-p.Done():
			return fmt.Errorf("%s: %w; it said: %s", what, process.ErrEnded, process.Tail(c.path(what+".log"), 4096))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *ControlPlane) awaitAPIServer(ctx context.Context) error {
	return c.poll(ctx, "kube-apiserver", c.apiServer, func() error {
		return c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}
