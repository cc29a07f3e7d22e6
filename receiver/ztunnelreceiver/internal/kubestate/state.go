package kubestate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

const (
	// lookBack is how old a change may be that is found at the start, if the object says when it happened: what was before a restart
	// of the collector is still "just before" an outage.
	lookBack = 10 * time.Minute
	// maxText bounds what others wrote, in bytes.
	maxText = 256
)

// Config says what to follow.
type Config struct {
	Workloads, Pods, Nodes, Events bool
	// Namespaces are those of workloads, pods and events; empty means all.
	Namespaces []string
	// Node restricts pods to one node; empty means all.
	Node string
}

// Sink takes what is new. It is called by several goroutines.
type Sink interface {
	Changed(changes []mesh.Change)
	// NodeGone tells that a node was removed.
	NodeGone(node string)
}

// Watcher follows a cluster.
type Watcher struct {
	sink      Sink
	now       func() time.Time
	informers []*kube.Informer
	warnings  *warnings
}

// New returns a watcher that Run starts. now says what time it is.
func New(api kubernetes.Interface, cfg Config, report kube.Report, sink Sink, now func() time.Time) (*Watcher, error) {
	w := &Watcher{sink: sink, now: now, warnings: newWarnings(cfg.Pods)}
	namespaces := cfg.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	if cfg.Nodes {
		if err := w.nodes(api, report); err != nil {
			return nil, err
		}
	}
	for _, namespace := range namespaces {
		if cfg.Workloads {
			if err := w.workloads(api, namespace, report); err != nil {
				return nil, err
			}
		}
		if cfg.Pods {
			if err := w.pods(api, namespace, cfg.Node, report); err != nil {
				return nil, err
			}
		}
		if cfg.Events {
			if err := w.events(api, namespace, report); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

// Run follows the cluster until the context ends and returns when nothing is under way any more.
func (w *Watcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, informer := range w.informers {
		wg.Go(func() { informer.Run(ctx) })
	}
	wg.Wait()
}

// moment is when something is found to be so.
type moment struct {
	now time.Time
	// initial tells that it may have been so for long: only what says that it happened a short while ago is new.
	initial bool
}

// at stamps a change with the time at which it happened, if that is known and can be, and tells whether it is new.
func (m moment) at(c mesh.Change, happened time.Time) (mesh.Change, bool) {
	c.Observed = pcommon.NewTimestampFromTime(m.now)
	switch age := m.now.Sub(happened); {
	case happened.IsZero() || age < 0:
		c.Time = c.Observed
		return c, !m.initial
	case m.initial && age > lookBack:
		return c, false
	}
	c.Time = pcommon.NewTimestampFromTime(happened)
	return c, true
}

// changes gathers those that are new.
type changes struct {
	moment
	list []mesh.Change
}

func (c *changes) add(change mesh.Change, happened time.Time) {
	if change, fresh := c.at(change, happened); fresh {
		c.list = append(c.list, change)
	}
}

// follow adds an informer of objects of type T; differ says what changed between two states of one, of which before is nil for a
// new one and after for one that is gone.
func follow[T any, L runtime.Object](
	w *Watcher, api kubernetes.Interface, r kube.Resource[L], differ func(before, after *T, found *changes), report kube.Report,
) error {
	tell := func(before, after any, initial bool) {
		// What is not of the type is nil.
		old, _ := before.(*T)
		fresh, _ := after.(*T)
		if old == nil && fresh == nil {
			return
		}
		found := changes{moment: moment{now: w.now(), initial: initial}}
		if differ(old, fresh, &found); len(found.list) > 0 {
			w.sink.Changed(found.list)
		}
	}
	informer, err := kube.NewInformer(api, r, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(object any, initial bool) { tell(nil, object, initial) },
		UpdateFunc: func(before, after any) { tell(before, after, false) },
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			tell(object, nil, false)
		},
	}, report)
	if err != nil {
		return fmt.Errorf("following %s: %w", r.Name, err)
	}
	w.informers = append(w.informers, informer)
	return nil
}

// trimMeta keeps of an object's metadata what is read.
func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		UID: m.UID, Namespace: m.Namespace, Name: m.Name, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}

// canonicalName is the canonical service by a pod's labels, as Istio sees it; owner is its workload's name.
func canonicalName(labels map[string]string, owner string) string {
	for _, label := range [...]string{"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"} {
		if name := labels[label]; name != "" {
			return name
		}
	}
	return owner
}

// canonicalLabels are the labels that canonicalName reads, and that of a Deployment's template.
func canonicalLabels(labels map[string]string) map[string]string {
	kept := map[string]string{}
	for _, label := range [...]string{"service.istio.io/canonical-name", "app.kubernetes.io/name", "app", templateHash} {
		if value, ok := labels[label]; ok {
			kept[label] = value
		}
	}
	return kept
}

const templateHash = "pod-template-hash"
