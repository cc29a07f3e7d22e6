package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"golang.org/x/sys/unix"

	"github.com/nephilia/nephilia/e2e/cluster/internal/network"
	"github.com/nephilia/nephilia/e2e/cluster/internal/process"
)

// entrypoint is the image's.
const entrypoint = "/otelcol-nephilia"

// Runner runs pods of one container without a container engine: a network namespace, a file system of its own in
// which there is nothing but the binary and the pod's volumes, and the pod's user and groups. It wants to be in a
// mount namespace of its own.
type Runner struct {
	Client  kubernetes.Interface
	Network *network.Network
	Folder  string                       // for the pods' file systems, volumes and logs
	Binary  string                       // what the image holds
	Hosts   map[string]netip.Addr        // names that resolve
	Tokens  func(string) (string, error) // changes each service account token before a pod gets it; may be nil
	API     netip.AddrPort               // of the API server
}

// Pod is a running pod.
type Pod struct {
	Object    *corev1.Pod
	Namespace *network.Namespace

	runner  *Runner
	kubelet *Kubelet // nil where it needs nothing of its node
	folder  string
	root    string
	uid     uint32
	gid     uint32
	groups  []uint32

	mu      sync.Mutex
	process *process.Process
}

// Run starts a pod that exists in the API server. Volume claims are folders that outlive the pod.
func (r *Runner) Run(ctx context.Context, object *corev1.Pod, address netip.Addr, node *Kubelet) (*Pod, error) {
	if len(object.Spec.Containers) != 1 {
		return nil, fmt.Errorf("pod %s has %d containers", object.Name, len(object.Spec.Containers))
	}
	namespace, err := r.Network.Join(object.Name, address)
	if err != nil {
		return nil, err
	}
	p := &Pod{Object: object, Namespace: namespace, runner: r, kubelet: node, folder: filepath.Join(r.Folder, object.Name)}
	p.root = filepath.Join(p.folder, "root")
	p.identify()
	if err := p.build(ctx); err != nil {
		return nil, fmt.Errorf("building the file system of pod %s: %w", object.Name, err)
	}
	if err := p.setStatus(ctx); err != nil {
		return nil, err
	}
	return p, p.Start()
}

// identify takes the user and groups from the security contexts.
func (p *Pod) identify() {
	// Without a word the image's user is taken.
	p.uid, p.gid = 65532, 65532
	spec := &p.Object.Spec
	if c := spec.SecurityContext; c != nil {
		set(&p.uid, c.RunAsUser)
		set(&p.gid, c.RunAsGroup)
		for _, group := range c.SupplementalGroups {
			p.groups = append(p.groups, uint32(group))
		}
		if c.FSGroup != nil {
			p.groups = append(p.groups, uint32(*c.FSGroup))
		}
	}
	if c := spec.Containers[0].SecurityContext; c != nil {
		set(&p.uid, c.RunAsUser)
		set(&p.gid, c.RunAsGroup)
	}
}

func set(to *uint32, value *int64) {
	if value != nil {
		*to = uint32(*value)
	}
}

// build makes the container's file system.
func (p *Pod) build(ctx context.Context) error {
	container := &p.Object.Spec.Containers[0]
	for _, folder := range []string{"proc", "dev", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(p.root, folder), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(p.root, entrypoint), nil, 0o755); err != nil {
		return err
	}
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n")
	for name, address := range p.runner.Hosts {
		fmt.Fprintf(&hosts, "%s %s\n", address, name)
	}
	if err := os.WriteFile(filepath.Join(p.root, "etc", "hosts"), []byte(hosts.String()), 0o644); err != nil {
		return err
	}
	for _, m := range container.VolumeMounts {
		if err := os.MkdirAll(filepath.Join(p.root, m.MountPath), 0o755); err != nil {
			return err
		}
	}
	if err := bind(p.root, p.root, false); err != nil {
		return err
	}
	for _, source := range []string{"/proc", "/dev"} {
		if err := bind(source, filepath.Join(p.root, source), false); err != nil {
			return err
		}
	}
	if err := bind(p.runner.Binary, filepath.Join(p.root, entrypoint), true); err != nil {
		return err
	}
	for _, m := range container.VolumeMounts {
		source, err := p.volume(ctx, m.Name)
		if err != nil {
			return fmt.Errorf("volume %s: %w", m.Name, err)
		}
		if err := bind(filepath.Join(source, m.SubPath), filepath.Join(p.root, m.MountPath), m.ReadOnly); err != nil {
			return fmt.Errorf("mounting %s: %w", m.MountPath, err)
		}
	}
	if c := container.SecurityContext; c != nil && c.ReadOnlyRootFilesystem != nil && *c.ReadOnlyRootFilesystem {
		return unix.Mount("", p.root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

func bind(source, target string, readOnly bool) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", source, target, err)
	}
	if readOnly {
		return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

// setStatus tells the API server where the pod runs.
func (p *Pod) setStatus(ctx context.Context) error {
	pods := p.runner.Client.CoreV1().Pods(p.Object.Namespace)
	ip := p.Namespace.Address.String()
	p.Object.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	updated, err := pods.UpdateStatus(ctx, p.Object, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("setting the status of pod %s: %w", p.Object.Name, err)
	}
	p.Object = updated
	return nil
}

// Log is the file of what the container prints.
func (p *Pod) Log() string { return filepath.Join(p.folder, "container.log") }

// Volume is the folder of a volume that is the pod's own.
func (p *Pod) Volume(name string) string { return filepath.Join(p.folder, "volumes", name) }

// Start starts the container again, with the pod's volumes as they are.
func (p *Pod) Start() error {
	container := &p.Object.Spec.Containers[0]
	env, err := p.environment(container)
	if err != nil {
		return err
	}
	path := entrypoint
	args := container.Args
	if len(container.Command) > 0 {
		path, args = container.Command[0], append(container.Command[1:], args...)
	}
	expanded := make([]string, len(args))
	for i, arg := range args {
		expanded[i] = expand(arg, env)
	}
	started, err := process.Start(process.Program{
		Name: p.Object.Name, Namespace: p.Namespace, Path: path, Args: expanded, Env: env,
		Log: p.Log(), Root: p.root, UID: p.uid, GID: p.gid, Groups: p.groups,
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.process = started
	return nil
}

func (p *Pod) running() *process.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process
}

// Alive tells whether the container runs.
func (p *Pod) Alive() bool { return p.running().Alive() }

// Kill ends the container without warning; its volumes stay.
func (p *Pod) Kill() { p.running().Kill() }

// Stop ends the container as the kubelet does when the pod is deleted.
func (p *Pod) Stop() error {
	grace := 30 * time.Second
	if seconds := p.Object.Spec.TerminationGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	return p.running().Stop(grace)
}

// Remove takes the pod's file system apart; its volumes and its log stay.
func (p *Pod) Remove() error {
	return unix.Unmount(p.root, unix.MNT_DETACH)
}

// environment resolves a container's variables.
func (p *Pod) environment(container *corev1.Container) ([]string, error) {
	env := []string{
		"PATH=/", "HOSTNAME=" + p.Object.Name,
		"KUBERNETES_SERVICE_HOST=" + p.runner.API.Addr().String(), fmt.Sprintf("KUBERNETES_SERVICE_PORT=%d", p.runner.API.Port()),
	}
	for _, variable := range container.Env {
		value := expand(variable.Value, env)
		if from := variable.ValueFrom; from != nil {
			var err error
			if value, err = p.resolve(container, from); err != nil {
				return nil, fmt.Errorf("variable %s: %w", variable.Name, err)
			}
		}
		env = append(env, variable.Name+"="+value)
	}
	return env, nil
}

func (p *Pod) resolve(container *corev1.Container, from *corev1.EnvVarSource) (string, error) {
	switch {
	case from.FieldRef != nil:
		switch from.FieldRef.FieldPath {
		case "metadata.name":
			return p.Object.Name, nil
		case "metadata.namespace":
			return p.Object.Namespace, nil
		case "metadata.uid":
			return string(p.Object.UID), nil
		case "spec.nodeName":
			return p.Object.Spec.NodeName, nil
		case "spec.serviceAccountName":
			return p.Object.Spec.ServiceAccountName, nil
		case "status.podIP":
			return p.Namespace.Address.String(), nil
		}
		return "", fmt.Errorf("unknown field %s", from.FieldRef.FieldPath)
	case from.ResourceFieldRef != nil:
		limit := container.Resources.Limits
		divisor := from.ResourceFieldRef.Divisor.Value()
		switch from.ResourceFieldRef.Resource {
		case "limits.memory":
			return fmt.Sprint(limit.Memory().Value() / max(1, divisor)), nil
		case "limits.cpu":
			return fmt.Sprint(limit.Cpu().Value() / max(1, divisor)), nil
		}
		return "", fmt.Errorf("unknown resource %s", from.ResourceFieldRef.Resource)
	}
	return "", errors.New("unknown source")
}

// expand replaces $(NAME) as the kubelet does.
func expand(text string, env []string) string {
	for i := len(env) - 1; i >= 0; i-- {
		name, value, _ := strings.Cut(env[i], "=")
		text = strings.ReplaceAll(text, "$("+name+")", value)
	}
	return text
}
