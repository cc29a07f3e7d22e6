package kubestate

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

func (w *Watcher) nodes(api kubernetes.Interface, report kube.Report) error {
	return follow(w, api, kube.Resource[*corev1.NodeList]{
		Name: "nodes", Example: &corev1.Node{}, Client: api.CoreV1().Nodes(), Trim: trimNode,
	}, func(before, after *corev1.Node, found *changes) {
		if after == nil {
			w.sink.NodeGone(before.Name)
		}
		nodeChanges(before, after, found)
	}, report)
}

// trimNode keeps of a node what nodeChanges reads.
func trimNode(object any) (any, error) {
	n, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Node{
		ObjectMeta: trimMeta(&n.ObjectMeta),
		Spec:       corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable},
		Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: n.Status.NodeInfo.BootID}},
	}
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		trimmed.Status.Conditions = append(trimmed.Status.Conditions, corev1.NodeCondition{
			Type: c.Type, Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: bounded(c.Message),
		})
	}
	return trimmed, nil
}

func nodeChanges(before, after *corev1.Node, found *changes) {
	n := after
	if n == nil {
		n = before
	}
	add := func(reason mesh.ChangeReason, warning bool, happened time.Time, text string) {
		found.add(mesh.Change{
			Reason: reason, Kind: "Node", Name: n.Name, Node: n.Name, Text: "node " + n.Name + " " + text, Warning: warning,
		}, happened)
	}
	switch {
	case after == nil:
		add(mesh.ChangeRemoved, false, time.Time{}, "was removed")
		return
	case before == nil:
		add(mesh.ChangeAdded, false, after.CreationTimestamp.Time, "was added")
	default:
		if before.Spec.Unschedulable != after.Spec.Unschedulable {
			if after.Spec.Unschedulable {
				add(mesh.ChangeCordoned, false, time.Time{}, "is cordoned")
			} else {
				add(mesh.ChangeUncordoned, false, time.Time{}, "is no longer cordoned")
			}
		}
		if boot := before.Status.NodeInfo.BootID; boot != "" && boot != after.Status.NodeInfo.BootID {
			add(mesh.ChangeRebooted, true, time.Time{}, "was rebooted")
		}
	}
	for i := range after.Status.Conditions {
		now := &after.Status.Conditions[i]
		was := conditionOf(before, now.Type)
		if was != nil && was.Status == now.Status {
			continue
		}
		ready := now.Type == corev1.NodeReady
		bad := ready != (now.Status == corev1.ConditionTrue)
		// At first sight, what is well is nothing new.
		if was == nil && !bad {
			continue
		}
		reason, text := mesh.ChangeRelieved, "no longer has "+string(now.Type)
		switch {
		case ready && bad:
			reason, text = mesh.ChangeNotReady, "is not ready"
		case ready:
			reason, text = mesh.ChangeReady, "is ready again"
		case bad:
			reason, text = mesh.ChangePressure, "has "+string(now.Type)
		}
		if why := strings.TrimSpace(now.Reason + " " + now.Message); bad && why != "" {
			text += ": " + bounded(why)
		}
		add(reason, bad, now.LastTransitionTime.Time, text)
	}
}

func conditionOf(n *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	if n == nil {
		return nil
	}
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == kind {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}
