package kubestate

import (
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

const (
	// repeatAfter is after how long the same warning about the same object is told again.
	repeatAfter = 10 * time.Minute
	// maxWarnings bounds the warnings that are remembered for that.
	maxWarnings = 10_000
)

// toldByPods are the reasons of warnings that pods' own state tells better.
var toldByPods = map[string]bool{"BackOff": true, "Evicted": true, "OOMKilling": true}

func (w *Watcher) events(api kubernetes.Interface, namespace string, report kube.Report) error {
	return follow(w, api, kube.Resource[*corev1.EventList]{
		Name: "events", Example: &corev1.Event{}, Client: api.CoreV1().Events(namespace), FieldSelector: "type=Warning", Trim: trimEvent,
	}, func(_, after *corev1.Event, found *changes) { w.warnings.take(after, found) }, report)
}

// trimEvent keeps of an event what is read.
func trimEvent(object any) (any, error) {
	e, ok := object.(*corev1.Event)
	if !ok {
		return object, nil
	}
	return &corev1.Event{
		ObjectMeta: trimMeta(&e.ObjectMeta), Type: e.Type, Reason: e.Reason, Message: bounded(e.Message),
		InvolvedObject: corev1.ObjectReference{Kind: e.InvolvedObject.Kind, Namespace: e.InvolvedObject.Namespace, Name: e.InvolvedObject.Name},
		Source:         corev1.EventSource{Host: e.Source.Host},
		LastTimestamp:  e.LastTimestamp, EventTime: e.EventTime, Series: e.Series,
	}, nil
}

// warnings remembers of what was warned a short while ago.
type warnings struct {
	// pods tells that pods are followed too.
	pods bool
	mu   sync.Mutex
	told map[warning]time.Time // bounded by maxWarnings
}

type warning struct{ kind, namespace, name, reason string }

func newWarnings(pods bool) *warnings { return &warnings{pods: pods, told: map[warning]time.Time{}} }

func (w *warnings) take(e *corev1.Event, found *changes) {
	if e == nil || e.Type != corev1.EventTypeWarning || w.pods && toldByPods[e.Reason] || e.InvolvedObject.Name == "" {
		return
	}
	object := &e.InvolvedObject
	change := mesh.Change{
		Reason: mesh.ChangeEvent, Kind: object.Kind, Namespace: object.Namespace, Name: object.Name, Warning: true,
		Text: strings.ToLower(object.Kind) + " " + strings.TrimPrefix(object.Namespace+"/"+object.Name, "/") + ": " + bounded(e.Reason) + ": " + bounded(e.Message),
	}
	switch object.Kind {
	case "Node":
		change.Node, change.Namespace = object.Name, ""
	case "Pod":
		change.Node = e.Source.Host
	}
	change, fresh := found.at(change, when(e))
	if !fresh || !w.due(warning{object.Kind, object.Namespace, object.Name, e.Reason}, change.Time.AsTime()) {
		return
	}
	found.list = append(found.list, change)
}

func (w *warnings) due(key warning, at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, ok := w.told[key]; ok && at.Sub(last) < repeatAfter {
		return false
	}
	if len(w.told) >= maxWarnings {
		for other, last := range w.told {
			if at.Sub(last) >= repeatAfter {
				delete(w.told, other)
			}
		}
	}
	if len(w.told) >= maxWarnings {
		clear(w.told)
	}
	w.told[key] = at
	return true
}

// when is when an event happened last.
func when(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil && !e.Series.LastObservedTime.IsZero():
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}
