// Package kubelet plays the parts of a node's kubelet that a collector meets: it serves pods' logs to the API server,
// with the code of the real one, and runs a collector's pod as the chart describes it.
package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"

	"github.com/nephilia/nephilia/e2e/cluster/internal/controlplane"
	"github.com/nephilia/nephilia/e2e/cluster/internal/network"
)

// Port is where kubelets listen.
const Port = 10250

// Kubelet is one node's.
type Kubelet struct {
	Node string
	// Logs is the folder that is the node's /var/log/pods.
	Logs string

	server *http.Server
}

// Start serves the logs of a node's pods to the API server.
func Start(node string, namespace *network.Namespace, authority *controlplane.Authority, folder string) (*Kubelet, error) {
	k := &Kubelet{Node: node, Logs: filepath.Join(folder, "log", "pods")}
	// The kubelet's own mode: only root and its group can enter.
	if err := os.MkdirAll(k.Logs, 0o750); err != nil {
		return nil, fmt.Errorf("making the logs' folder of %s: %w", node, err)
	}
	certificate, key, err := authority.Issue("kubelet-"+node, pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}, []string{node}, namespace.Address)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("loading the certificate of %s's kubelet: %w", node, err)
	}
	ca, err := os.ReadFile(authority.Path())
	if err != nil {
		return nil, fmt.Errorf("reading the authority: %w", err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ca)
	listener, err := namespace.Listen(Port)
	if err != nil {
		return nil, fmt.Errorf("listening as %s's kubelet: %w", node, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.containerLogs)
	k.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients},
	}
	go func() { _ = k.server.ServeTLS(listener, "", "") }()
	return k, nil
}

// Close ends the kubelet.
func (k *Kubelet) Close() error { return k.server.Close() }

// Address is where the kubelet of a namespace listens.
func Address(ip netip.Addr) string { return netip.AddrPortFrom(ip, Port).String() }

// PodLogs is the folder of a container's log as kubelets name it.
func (k *Kubelet) PodLogs(pod *corev1.Pod, container string) string {
	return filepath.Join(k.Logs, fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID), container)
}

func (k *Kubelet) containerLogs(w http.ResponseWriter, r *http.Request) {
	options, err := logOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.URL.Query().Get("previous") == "true" {
		// No container of a simulated pod was ever restarted. The real one's words.
		http.Error(w, fmt.Sprintf("previous terminated container %q in pod %q not found", r.PathValue("container"), r.PathValue("pod")), http.StatusBadRequest)
		return
	}
	pattern := filepath.Join(k.Logs, r.PathValue("namespace")+"_"+r.PathValue("pod")+"_*", r.PathValue("container"), "0.log")
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		http.Error(w, "no such container", http.StatusNotFound)
		return
	}
	out := &flushing{w: w, controller: http.NewResponseController(w)}
	w.WriteHeader(http.StatusOK)
	_ = out.controller.Flush()
	err = logs.ReadLogs(r.Context(), paths[0], "container", options, running{}, out, out)
	if err != nil && !errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintf(w, "%v\n", err) // as the real one does
	}
}

func logOptions(r *http.Request) (*logs.LogOptions, error) {
	query := r.URL.Query()
	options := &logs.LogOptions{Follow: query.Get("follow") == "true", Timestamp: query.Get("timestamps") == "true"}
	var sinceSeconds *int64
	for name, field := range map[string]**int64{"tailLines": &options.TailLines, "limitBytes": &options.LimitBytes, "sinceSeconds": &sinceSeconds} {
		if text := query.Get(name); text != "" {
			value, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", name, err)
			}
			*field = &value
		}
	}
	if text := query.Get("sinceTime"); text != "" {
		since, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, fmt.Errorf("reading sinceTime: %w", err)
		}
		options.Since = since
	} else if sinceSeconds != nil {
		options.Since = time.Now().Add(-time.Duration(*sinceSeconds) * time.Second)
	}
	return options, nil
}

// flushing sends every line at once.
type flushing struct {
	w          http.ResponseWriter
	controller *http.ResponseController
}

func (f *flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.controller.Flush()
	}
	return n, err
}

// running is a container runtime all of whose containers run.
type running struct{ internalapi.RuntimeService }

func (running) ContainerStatus(context.Context, string, bool) (*runtimeapi.ContainerStatusResponse, error) {
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{State: runtimeapi.ContainerState_CONTAINER_RUNNING}}, nil
}
