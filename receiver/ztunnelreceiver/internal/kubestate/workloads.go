package kubestate

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

const (
	// templateKey is where a trimmed workload keeps a hash of its pods' template.
	templateKey = "nephilia/template"
	// restartKey is what kubectl rollout restart writes into a template.
	restartKey = "kubectl.kubernetes.io/restartedAt"
)

// workload is what Deployments, StatefulSets and DaemonSets have in common.
type workload struct {
	kind     string
	meta     *metav1.ObjectMeta
	template *corev1.PodTemplateSpec
	// replicas are wanted; -1 where that is the number of nodes.
	replicas int32
	// pods are how many there shall be; rolling tells that not all of them are of the present template.
	pods    int32
	rolling bool
	// stuck is why a rollout makes no progress; stuckAt since when.
	stuck   string
	stuckAt time.Time
}

func (w *Watcher) workloads(api kubernetes.Interface, namespace string, report kube.Report) error {
	apps := api.AppsV1()
	if err := follow(w, api, kube.Resource[*appsv1.DeploymentList]{
		Name: "deployments", Example: &appsv1.Deployment{}, Client: apps.Deployments(namespace), Trim: trimWorkload,
	}, func(before, after *appsv1.Deployment, found *changes) {
		workloadChanges(deployment(before), deployment(after), found)
	}, report); err != nil {
		return err
	}
	if err := follow(w, api, kube.Resource[*appsv1.StatefulSetList]{
		Name: "statefulsets", Example: &appsv1.StatefulSet{}, Client: apps.StatefulSets(namespace), Trim: trimWorkload,
	}, func(before, after *appsv1.StatefulSet, found *changes) {
		workloadChanges(statefulSet(before), statefulSet(after), found)
	}, report); err != nil {
		return err
	}
	return follow(w, api, kube.Resource[*appsv1.DaemonSetList]{
		Name: "daemonsets", Example: &appsv1.DaemonSet{}, Client: apps.DaemonSets(namespace), Trim: trimWorkload,
	}, func(before, after *appsv1.DaemonSet, found *changes) {
		workloadChanges(daemonSet(before), daemonSet(after), found)
	}, report)
}

func deployment(d *appsv1.Deployment) *workload {
	if d == nil {
		return nil
	}
	w := &workload{kind: "Deployment", meta: &d.ObjectMeta, template: &d.Spec.Template, replicas: wanted(d.Spec.Replicas)}
	w.pods = w.replicas
	w.rolling = d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedReplicas < w.pods || d.Status.Replicas > d.Status.UpdatedReplicas
	for i := range d.Status.Conditions {
		if c := &d.Status.Conditions[i]; c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse {
			w.stuck, w.stuckAt = c.Reason, c.LastTransitionTime.Time
		}
	}
	return w
}

func statefulSet(s *appsv1.StatefulSet) *workload {
	if s == nil {
		return nil
	}
	w := &workload{kind: "StatefulSet", meta: &s.ObjectMeta, template: &s.Spec.Template, replicas: wanted(s.Spec.Replicas)}
	w.pods = w.replicas
	w.rolling = s.Status.ObservedGeneration < s.Generation || s.Status.UpdatedReplicas < w.pods
	return w
}

func daemonSet(d *appsv1.DaemonSet) *workload {
	if d == nil {
		return nil
	}
	w := &workload{kind: "DaemonSet", meta: &d.ObjectMeta, template: &d.Spec.Template, replicas: -1}
	w.pods = d.Status.DesiredNumberScheduled
	w.rolling = d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedNumberScheduled < w.pods
	return w
}

func wanted(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

// trimWorkload keeps of a workload what workloadChanges reads, and of its pods' template a hash.
func trimWorkload(object any) (any, error) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return &appsv1.Deployment{
			ObjectMeta: trimMeta(&o.ObjectMeta),
			Spec:       appsv1.DeploymentSpec{Replicas: o.Spec.Replicas, Template: trimTemplate(&o.Spec.Template)},
			Status:     o.Status,
		}, nil
	case *appsv1.StatefulSet:
		return &appsv1.StatefulSet{
			ObjectMeta: trimMeta(&o.ObjectMeta),
			Spec:       appsv1.StatefulSetSpec{Replicas: o.Spec.Replicas, Template: trimTemplate(&o.Spec.Template)},
			Status:     o.Status,
		}, nil
	case *appsv1.DaemonSet:
		return &appsv1.DaemonSet{
			ObjectMeta: trimMeta(&o.ObjectMeta), Spec: appsv1.DaemonSetSpec{Template: trimTemplate(&o.Spec.Template)}, Status: o.Status,
		}, nil
	}
	return object, nil
}

func trimTemplate(t *corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	// client-go trims what is trimmed already when it lists again.
	hash := t.Annotations[templateKey]
	if hash == "" {
		sum := fnv.New64a()
		_ = json.NewEncoder(sum).Encode(t)
		hash = strconv.FormatUint(sum.Sum64(), 16)
	}
	trimmed := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{
		Labels: canonicalLabels(t.Labels), Annotations: map[string]string{templateKey: hash, restartKey: t.Annotations[restartKey]},
	}}
	for i := range t.Spec.Containers {
		trimmed.Spec.Containers = append(trimmed.Spec.Containers, corev1.Container{Name: t.Spec.Containers[i].Name, Image: t.Spec.Containers[i].Image})
	}
	return trimmed
}

func workloadChanges(before, after *workload, found *changes) {
	w := after
	if w == nil {
		w = before
	}
	what := strings.ToLower(w.kind) + " " + w.meta.Namespace + "/" + w.meta.Name
	add := func(reason mesh.ChangeReason, warning bool, happened time.Time, format string, args ...any) {
		found.add(mesh.Change{
			Reason: reason, Kind: w.kind, Namespace: w.meta.Namespace, Name: w.meta.Name,
			App: canonicalName(w.template.Labels, w.meta.Name), Text: what + " " + fmt.Sprintf(format, args...), Warning: warning,
		}, happened)
	}
	switch {
	case before == nil:
		add(mesh.ChangeCreated, false, w.meta.CreationTimestamp.Time, "was created")
	case after == nil:
		add(mesh.ChangeDeleted, false, time.Time{}, "was deleted")
		return
	case before.meta.UID != after.meta.UID:
		add(mesh.ChangeCreated, false, w.meta.CreationTimestamp.Time, "was deleted and created anew")
	}
	if before == nil {
		if w.stuck != "" {
			add(mesh.ChangeRolloutStuck, true, w.stuckAt, "makes no progress: %s", bounded(w.stuck))
		}
		return
	}
	if before.template.Annotations[templateKey] != after.template.Annotations[templateKey] {
		add(mesh.ChangeRollout, false, time.Time{}, "rolls out %s (generation %d)", difference(before.template, after.template), w.meta.Generation)
	} else if before.rolling && !after.rolling && before.pods == after.pods {
		add(mesh.ChangeRolledOut, false, time.Time{}, "is rolled out (generation %d)", w.meta.Generation)
	}
	if before.replicas != after.replicas {
		add(mesh.ChangeScaled, false, time.Time{}, "was scaled from %d to %d", before.replicas, after.replicas)
	}
	if after.stuck != "" && before.stuck == "" {
		add(mesh.ChangeRolloutStuck, true, w.stuckAt, "makes no progress: %s", bounded(w.stuck))
	}
}

// difference says what is new in a template of pods.
func difference(before, after *corev1.PodTemplateSpec) string {
	var images []string
	for i := range after.Spec.Containers {
		fresh := &after.Spec.Containers[i]
		at := slices.IndexFunc(before.Spec.Containers, func(c corev1.Container) bool { return c.Name == fresh.Name })
		switch {
		case at < 0:
			images = append(images, "container "+fresh.Name+" with image "+bounded(fresh.Image))
		case before.Spec.Containers[at].Image != fresh.Image:
			images = append(images, "image "+bounded(fresh.Image)+" instead of "+bounded(before.Spec.Containers[at].Image))
		}
	}
	switch {
	case len(images) > 0:
		return strings.Join(images, ", ")
	case before.Annotations[restartKey] != after.Annotations[restartKey]:
		return "a restart"
	}
	return "a new pod template"
}

func bounded(text string) string {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
