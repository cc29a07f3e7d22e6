package kubestate

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

const (
	reasonOOMKilled = "OOMKilled"
	reasonCrashLoop = "CrashLoopBackOff"
)

func (w *Watcher) pods(api kubernetes.Interface, namespace, node string, report kube.Report) error {
	r := kube.Resource[*corev1.PodList]{Name: "workload_pods", Example: &corev1.Pod{}, Client: api.CoreV1().Pods(namespace), Trim: trimPod}
	if node != "" {
		r.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
	}
	return follow(w, api, r, podChanges, report)
}

// trimPod keeps of a pod what podChanges reads.
func trimPod(object any) (any, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Pod{
		ObjectMeta: trimMeta(&p.ObjectMeta),
		Spec:       corev1.PodSpec{NodeName: p.Spec.NodeName},
		Status:     corev1.PodStatus{Phase: p.Status.Phase, Reason: p.Status.Reason, Message: bounded(p.Status.Message)},
	}
	trimmed.Labels = canonicalLabels(p.Labels)
	for i := range p.OwnerReferences {
		if o := &p.OwnerReferences[i]; o.Controller != nil && *o.Controller {
			trimmed.OwnerReferences = []metav1.OwnerReference{{Kind: o.Kind, Name: o.Name, Controller: o.Controller}}
		}
	}
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.DisruptionTarget {
			trimmed.Status.Conditions = append(trimmed.Status.Conditions, p.Status.Conditions[i])
		}
	}
	trimmed.Status.InitContainerStatuses = trimStatuses(p.Status.InitContainerStatuses)
	trimmed.Status.ContainerStatuses = trimStatuses(p.Status.ContainerStatuses)
	return trimmed, nil
}

func trimStatuses(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	trimmed := make([]corev1.ContainerStatus, len(statuses))
	for i := range statuses {
		s := &statuses[i]
		trimmed[i] = corev1.ContainerStatus{Name: s.Name, RestartCount: s.RestartCount, State: s.State, LastTerminationState: s.LastTerminationState}
	}
	return trimmed
}

// podChanges tells of restarts, of what keeps containers from running, and of evictions. That pods come and go, xDS tells.
func podChanges(before, after *corev1.Pod, found *changes) {
	if after == nil {
		return
	}
	if before != nil && before.UID != after.UID {
		before = nil
	}
	add := func(reason mesh.ChangeReason, warning bool, happened time.Time, text string) {
		found.add(mesh.Change{
			Reason: reason, Kind: "Pod", Namespace: after.Namespace, Name: after.Name, App: canonicalName(after.Labels, ownerOf(after)),
			Node: after.Spec.NodeName, Text: text, Warning: warning,
		}, happened)
	}
	name := after.Namespace + "/" + after.Name
	if evicted, why, when := eviction(after); evicted {
		if was, _, _ := eviction(before); !was {
			add(mesh.ChangeEvicted, true, when, "pod "+name+" is evicted: "+bounded(why))
		}
	}
	for _, lists := range [...][2][]corev1.ContainerStatus{
		{statuses(before, false), after.Status.ContainerStatuses}, {statuses(before, true), after.Status.InitContainerStatuses},
	} {
		for i := range lists[1] {
			now := &lists[1][i]
			containerChanges(name, statusOf(lists[0], now.Name), now, add)
		}
	}
}

func containerChanges(pod string, was, now *corev1.ContainerStatus, add func(mesh.ChangeReason, bool, time.Time, string)) {
	what := "container " + now.Name + " of pod " + pod
	last := now.LastTerminationState.Terminated
	if now.RestartCount > 0 && (was == nil || was.RestartCount < now.RestartCount) {
		reason, ended, when := mesh.ChangeRestarted, "ended", time.Time{}
		if last != nil {
			when = last.FinishedAt.Time
			if last.Reason == reasonOOMKilled {
				reason, ended = mesh.ChangeOOMKilled, "was killed for want of memory"
			} else if ended = "ended with exit code " + fmt.Sprint(last.ExitCode); last.Reason != "" && last.Reason != "Error" {
				ended += " (" + bounded(last.Reason) + ")"
			}
		}
		add(reason, true, when, fmt.Sprintf("%s %s and restarted (restarts: %d)", what, ended, now.RestartCount))
	}
	waiting := waitingFor(now)
	if waiting == "" || was != nil && waitingFor(was) == waiting {
		return
	}
	if waiting == reasonCrashLoop {
		when := time.Time{}
		if last != nil {
			when = last.FinishedAt.Time
		}
		add(mesh.ChangeCrashLoop, true, when, fmt.Sprintf("%s crashes again and again (restarts: %d)", what, now.RestartCount))
		return
	}
	add(mesh.ChangeCannotStart, true, time.Time{}, what+" cannot start: "+bounded(waiting))
}

// waitingFor is why a container does not run that nobody expects to wait; empty if it runs or will in a moment.
func waitingFor(s *corev1.ContainerStatus) string {
	if s.State.Waiting == nil {
		return ""
	}
	switch reason := s.State.Waiting.Reason; reason {
	case "ContainerCreating", "PodInitializing":
		return ""
	case "ErrImagePull":
		// The two take turns.
		return "ImagePullBackOff"
	default:
		return reason
	}
}

func eviction(p *corev1.Pod) (evicted bool, why string, when time.Time) {
	if p == nil {
		return false, "", time.Time{}
	}
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return true, strings.TrimSpace(c.Reason + " " + c.Message), c.LastTransitionTime.Time
		}
	}
	if p.Status.Phase == corev1.PodFailed && p.Status.Reason != "" {
		return true, strings.TrimSpace(p.Status.Reason + " " + p.Status.Message), time.Time{}
	}
	return false, "", time.Time{}
}

func statuses(p *corev1.Pod, init bool) []corev1.ContainerStatus {
	switch {
	case p == nil:
		return nil
	case init:
		return p.Status.InitContainerStatuses
	}
	return p.Status.ContainerStatuses
}

func statusOf(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}

// ownerOf is the name of a pod's workload, as Istio sees it: of a ReplicaSet, its Deployment's.
func ownerOf(p *corev1.Pod) string {
	if len(p.OwnerReferences) == 0 {
		return p.Name
	}
	owner := p.OwnerReferences[0].Name
	if hash := p.Labels[templateHash]; hash != "" && p.OwnerReferences[0].Kind == "ReplicaSet" {
		return strings.TrimSuffix(owner, "-"+hash)
	}
	return owner
}
