package kubestate

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kubetest"
)

var now = time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// trimmed is an object as the informers keep it, twice over as they may.
func trimmed[T runtime.Object](t *testing.T, trim func(any) (any, error), object T) T {
	t.Helper()
	for range 2 {
		kept, err := trim(object)
		require.NoError(t, err)
		object = kept.(T)
	}
	return object
}

func texts(found changes) []string {
	list := []string{}
	for _, c := range found.list {
		mark := ""
		if c.Warning {
			mark = "! "
		}
		list = append(list, fmt.Sprintf("%s%s %s: %s", mark, c.Reason, c.App, c.Text))
	}
	return list
}

func newDeployment(change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	three := int32(3)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "catalog-v1", UID: "1", Generation: 4, CreationTimestamp: ago(time.Hour)},
		Spec: appsv1.DeploymentSpec{Replicas: &three, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "catalog"}, Annotations: map[string]string{}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "catalog", Image: "shop/catalog:1"}}},
		}},
		Status: appsv1.DeploymentStatus{ObservedGeneration: 4, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3},
	}
	for _, f := range change {
		f(d)
	}
	return d
}

func TestWorkloadChanges(t *testing.T) {
	image := func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Image, d.Generation = "shop/catalog:2", 5
	}
	young := func(d *appsv1.Deployment) { d.CreationTimestamp = ago(time.Minute) }
	stuck := func(d *appsv1.Deployment) {
		d.Status.Conditions = []appsv1.DeploymentCondition{{
			Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", LastTransitionTime: ago(time.Minute),
		}}
	}
	for name, test := range map[string]struct {
		before, after *appsv1.Deployment
		initial       bool
		want          []string
	}{
		"nothing":              {newDeployment(), newDeployment(), false, nil},
		"it was there":         {nil, newDeployment(), true, nil},
		"it was just made":     {nil, newDeployment(young), true, []string{"created catalog: deployment shop/catalog-v1 was created"}},
		"it is made":           {nil, newDeployment(), false, []string{"created catalog: deployment shop/catalog-v1 was created"}},
		"it is stuck at first": {nil, newDeployment(stuck), true, []string{"! rollout_stuck catalog: deployment shop/catalog-v1 makes no progress: ProgressDeadlineExceeded"}},
		"it is deleted":        {newDeployment(), nil, false, []string{"deleted catalog: deployment shop/catalog-v1 was deleted"}},
		"another of its name": {newDeployment(), newDeployment(func(d *appsv1.Deployment) { d.UID = "2" }), false, []string{
			"created catalog: deployment shop/catalog-v1 was deleted and created anew",
		}},
		"an image": {newDeployment(), newDeployment(image), false, []string{
			"rollout catalog: deployment shop/catalog-v1 rolls out image shop/catalog:2 instead of shop/catalog:1 (generation 5)",
		}},
		"a container": {newDeployment(), newDeployment(func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{Name: "cache", Image: "redis:7"})
		}), false, []string{"rollout catalog: deployment shop/catalog-v1 rolls out container cache with image redis:7 (generation 4)"}},
		"an environment": {newDeployment(), newDeployment(func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "b"}}
		}), false, []string{"rollout catalog: deployment shop/catalog-v1 rolls out a new pod template (generation 4)"}},
		"a restart": {newDeployment(), newDeployment(func(d *appsv1.Deployment) {
			d.Spec.Template.Annotations[restartKey] = "now"
		}), false, []string{"rollout catalog: deployment shop/catalog-v1 rolls out a restart (generation 4)"}},
		"the end of a rollout": {
			newDeployment(image, func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }),
			newDeployment(image, func(d *appsv1.Deployment) { d.Status.ObservedGeneration = 5 }), false,
			[]string{"rolled_out catalog: deployment shop/catalog-v1 is rolled out (generation 5)"},
		},
		"a pod that is not available": {newDeployment(func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 2 }), newDeployment(), false, nil},
		"a scale": {newDeployment(), newDeployment(func(d *appsv1.Deployment) {
			zero := int32(0)
			d.Spec.Replicas = &zero
		}), false, []string{"scaled catalog: deployment shop/catalog-v1 was scaled from 3 to 0"}},
		"it gets stuck": {newDeployment(), newDeployment(stuck), false, []string{
			"! rollout_stuck catalog: deployment shop/catalog-v1 makes no progress: ProgressDeadlineExceeded",
		}},
		"it stays stuck": {newDeployment(stuck), newDeployment(stuck), false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			keep := func(d *appsv1.Deployment) *appsv1.Deployment {
				if d == nil {
					return nil
				}
				return trimmed(t, trimWorkload, d)
			}
			found := changes{moment: moment{now: now, initial: test.initial}}
			workloadChanges(deployment(keep(test.before)), deployment(keep(test.after)), &found)
			assert.Equal(t, append([]string{}, test.want...), texts(found))
		})
	}
}

func TestOtherWorkloads(t *testing.T) {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "postgres", UID: "1"}}
	set.Status.UpdatedReplicas = 1
	set = trimmed(t, trimWorkload, set)
	four := int32(4)
	scaled := set.DeepCopy()
	scaled.Spec.Replicas = &four
	found := changes{moment: moment{now: now}}
	workloadChanges(statefulSet(set), statefulSet(scaled), &found)
	assert.Equal(t, []string{"scaled postgres: statefulset data/postgres was scaled from 1 to 4"}, texts(found))

	daemons := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "ztunnel", UID: "1", Generation: 2}}
	daemons.Status.DesiredNumberScheduled, daemons.Status.UpdatedNumberScheduled, daemons.Status.ObservedGeneration = 3, 1, 2
	daemons = trimmed(t, trimWorkload, daemons)
	done := daemons.DeepCopy()
	done.Status.UpdatedNumberScheduled = 3
	grown := done.DeepCopy()
	grown.Status.DesiredNumberScheduled = 4
	found = changes{moment: moment{now: now}}
	workloadChanges(daemonSet(daemons), daemonSet(done), &found)
	workloadChanges(daemonSet(done), daemonSet(grown), &found)
	assert.Equal(t, []string{"rolled_out ztunnel: daemonset istio-system/ztunnel is rolled out (generation 2)"}, texts(found))
	assert.Nil(t, statefulSet(nil))
	assert.Nil(t, daemonSet(nil))
}

func newPod(change ...func(*corev1.Pod)) *corev1.Pod {
	controller := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "catalog-v1-7d88-a", UID: "1", Labels: map[string]string{templateHash: "7d88"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "catalog-v1-7d88", Controller: &controller}},
		},
		Spec: corev1.PodSpec{NodeName: "node-a"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
			Name: "catalog", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func TestPodChanges(t *testing.T) {
	ended := func(restarts int32, reason string, code int32, before time.Duration) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			s := &p.Status.ContainerStatuses[0]
			s.RestartCount = restarts
			s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code, FinishedAt: ago(before)}
		}
	}
	waits := func(reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
		}
	}
	evicted := func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "drained", LastTransitionTime: ago(time.Second),
		}}
	}
	failed := func(p *corev1.Pod) {
		p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "The node was low on resource: memory."
	}
	for name, test := range map[string]struct {
		before, after *corev1.Pod
		initial       bool
		want          []string
	}{
		"nothing":       {newPod(), newPod(), false, nil},
		"a new one":     {nil, newPod(), false, nil},
		"one that goes": {newPod(), nil, false, nil},
		"out of memory": {newPod(), newPod(ended(1, "OOMKilled", 137, time.Second)), false, []string{
			"! oom_killed catalog-v1: container catalog of pod shop/catalog-v1-7d88-a was killed for want of memory and restarted (restarts: 1)",
		}},
		"a crash": {newPod(), newPod(ended(1, "Error", 2, time.Second)), false, []string{
			"! restarted catalog-v1: container catalog of pod shop/catalog-v1-7d88-a ended with exit code 2 and restarted (restarts: 1)",
		}},
		"an end": {newPod(ended(1, "Error", 2, time.Hour)), newPod(ended(3, "Completed", 0, time.Second)), false, []string{
			"! restarted catalog-v1: container catalog of pod shop/catalog-v1-7d88-a ended with exit code 0 (Completed) and restarted (restarts: 3)",
		}},
		"a crash before the start": {nil, newPod(ended(1, "Error", 2, time.Minute)), true, []string{
			"! restarted catalog-v1: container catalog of pod shop/catalog-v1-7d88-a ended with exit code 2 and restarted (restarts: 1)",
		}},
		"a crash long before": {nil, newPod(ended(1, "Error", 2, time.Hour)), true, nil},
		"crashes":             {newPod(ended(4, "Error", 2, time.Second)), newPod(ended(4, "Error", 2, time.Second), waits("CrashLoopBackOff")), false, []string{"! crash_loop catalog-v1: container catalog of pod shop/catalog-v1-7d88-a crashes again and again (restarts: 4)"}},
		"still crashing":      {newPod(waits("CrashLoopBackOff")), newPod(waits("CrashLoopBackOff")), false, nil},
		"no image":            {newPod(waits("ContainerCreating")), newPod(waits("ErrImagePull")), false, []string{"! cannot_start catalog-v1: container catalog of pod shop/catalog-v1-7d88-a cannot start: ImagePullBackOff"}},
		"no image still":      {newPod(waits("ErrImagePull")), newPod(waits("ImagePullBackOff")), false, nil},
		"no start":            {newPod(), newPod(waits("PodInitializing")), false, nil},
		"an eviction":         {newPod(), newPod(evicted), false, []string{"! evicted catalog-v1: pod shop/catalog-v1-7d88-a is evicted: EvictionByEvictionAPI drained"}},
		"the same eviction":   {newPod(evicted), newPod(evicted), false, nil},
		"want of memory":      {newPod(), newPod(failed), false, []string{"! evicted catalog-v1: pod shop/catalog-v1-7d88-a is evicted: Evicted The node was low on resource: memory."}},
		"another of its name": {newPod(ended(1, "Error", 2, time.Hour)), newPod(func(p *corev1.Pod) { p.UID = "2" }), false, nil},
		"an init container": {newPod(), newPod(func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "migrate", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError"}}}}
		}), false, []string{"! cannot_start catalog-v1: container migrate of pod shop/catalog-v1-7d88-a cannot start: CreateContainerConfigError"}},
	} {
		t.Run(name, func(t *testing.T) {
			keep := func(p *corev1.Pod) *corev1.Pod {
				if p == nil {
					return nil
				}
				return trimmed(t, trimPod, p)
			}
			found := changes{moment: moment{now: now, initial: test.initial}}
			podChanges(keep(test.before), keep(test.after), &found)
			assert.Equal(t, append([]string{}, test.want...), texts(found))
			for _, c := range found.list {
				assert.Equal(t, "node-a", c.Node)
			}
		})
	}
}

func TestCanonicalName(t *testing.T) {
	assert.Equal(t, "a", canonicalName(map[string]string{"service.istio.io/canonical-name": "a", "app": "b"}, "c"))
	assert.Equal(t, "b", canonicalName(map[string]string{"app.kubernetes.io/name": "b", "app": "c"}, "d"))
	assert.Equal(t, "c", canonicalName(map[string]string{"app": "c"}, "d"))
	assert.Equal(t, "d", canonicalName(nil, "d"))
	assert.Equal(t, "catalog-v1-7d88-a", ownerOf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "catalog-v1-7d88-a"}}))
}

func newNode(change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a", UID: "1", CreationTimestamp: ago(time.Hour)},
		Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: "boot"}, Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: ago(time.Hour)},
			{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, LastTransitionTime: ago(time.Hour)},
		}},
	}
	for _, f := range change {
		f(n)
	}
	return n
}

func TestNodeChanges(t *testing.T) {
	lost := func(before time.Duration) func(*corev1.Node) {
		return func(n *corev1.Node) {
			c := &n.Status.Conditions[0]
			c.Status, c.Reason, c.Message, c.LastTransitionTime = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status.", ago(before)
		}
	}
	pressed := func(n *corev1.Node) {
		n.Status.Conditions[1].Status, n.Status.Conditions[1].LastTransitionTime = corev1.ConditionTrue, ago(0)
	}
	for name, test := range map[string]struct {
		before, after *corev1.Node
		initial       bool
		want          []string
	}{
		"nothing":          {newNode(), newNode(), false, nil},
		"it was there":     {nil, newNode(), true, nil},
		"it comes":         {nil, newNode(), false, []string{"added : node node-a was added"}},
		"it goes":          {newNode(), nil, false, []string{"removed : node node-a was removed"}},
		"lost":             {newNode(), newNode(lost(time.Second)), false, []string{"! not_ready : node node-a is not ready: NodeStatusUnknown Kubelet stopped posting node status."}},
		"lost before":      {nil, newNode(lost(time.Minute)), true, []string{"! not_ready : node node-a is not ready: NodeStatusUnknown Kubelet stopped posting node status."}},
		"lost long before": {nil, newNode(lost(time.Hour)), true, nil},
		"back":             {newNode(lost(time.Minute)), newNode(), false, []string{"ready : node node-a is ready again"}},
		"pressure":         {newNode(), newNode(pressed), false, []string{"! pressure : node node-a has MemoryPressure"}},
		"relief":           {newNode(pressed), newNode(), false, []string{"relieved : node node-a no longer has MemoryPressure"}},
		"a drain":          {newNode(), newNode(func(n *corev1.Node) { n.Spec.Unschedulable = true }), false, []string{"cordoned : node node-a is cordoned"}},
		"its end":          {newNode(func(n *corev1.Node) { n.Spec.Unschedulable = true }), newNode(), false, []string{"uncordoned : node node-a is no longer cordoned"}},
		"a reboot":         {newNode(), newNode(func(n *corev1.Node) { n.Status.NodeInfo.BootID = "another" }), false, []string{"! rebooted : node node-a was rebooted"}},
	} {
		t.Run(name, func(t *testing.T) {
			keep := func(n *corev1.Node) *corev1.Node {
				if n == nil {
					return nil
				}
				return trimmed(t, trimNode, n)
			}
			found := changes{moment: moment{now: now, initial: test.initial}}
			nodeChanges(keep(test.before), keep(test.after), &found)
			assert.Equal(t, append([]string{}, test.want...), texts(found))
		})
	}
}

func newEvent(reason string, last metav1.Time) *corev1.Event {
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "e", UID: "1"}, Type: corev1.EventTypeWarning, Reason: reason, Message: "it did not answer",
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "catalog-v1-7d88-a"},
		Source:         corev1.EventSource{Host: "node-a"}, LastTimestamp: last,
	}
}

func TestWarnings(t *testing.T) {
	w := newWarnings(true)
	take := func(e *corev1.Event, initial bool) []string {
		found := changes{moment: moment{now: now, initial: initial}}
		if e != nil {
			e = trimmed(t, trimEvent, e)
		}
		w.take(e, &found)
		return texts(found)
	}
	assert.Empty(t, take(nil, false))
	assert.Empty(t, take(newEvent("Unhealthy", ago(time.Hour)), true), "long ago")
	assert.Empty(t, take(newEvent("BackOff", ago(0)), false), "the pod's own state tells it")
	normal := newEvent("Pulled", ago(0))
	normal.Type = corev1.EventTypeNormal
	assert.Empty(t, take(normal, false))
	const text = "! event : pod shop/catalog-v1-7d88-a: Unhealthy: it did not answer"
	assert.Equal(t, []string{text}, take(newEvent("Unhealthy", ago(9*time.Minute)), true))
	assert.Empty(t, take(newEvent("Unhealthy", ago(5*time.Minute)), false), "again")
	delete(w.told, warning{"Pod", "shop", "catalog-v1-7d88-a", "Unhealthy"})
	assert.Equal(t, []string{text}, take(newEvent("Unhealthy", metav1.NewTime(now.Add(2*time.Minute))), false), "its clock is ahead")
	assert.False(t, w.due(warning{"Pod", "shop", "catalog-v1-7d88-a", "Unhealthy"}, now.Add(9*time.Minute)))
	assert.True(t, w.due(warning{"Pod", "shop", "catalog-v1-7d88-a", "Unhealthy"}, now.Add(10*time.Minute)))

	node := newEvent("Rebooted", metav1.Time{})
	node.InvolvedObject, node.EventTime = corev1.ObjectReference{Kind: "Node", Name: "node-b"}, metav1.NewMicroTime(now)
	found := changes{moment: moment{now: now}}
	w.take(node, &found)
	require.Len(t, found.list, 1)
	assert.Equal(t, "node-b", found.list[0].Node)
	assert.Equal(t, "node node-b: Rebooted: it did not answer", found.list[0].Text)

	series := newEvent("Unhealthy", metav1.Time{})
	series.Series = &corev1.EventSeries{LastObservedTime: metav1.NewMicroTime(now.Add(-time.Second))}
	assert.Equal(t, now.Add(-time.Second), when(series))
	series.Series, series.CreationTimestamp = nil, ago(time.Minute)
	assert.Equal(t, now.Add(-time.Minute), when(series))
}

func TestWarningsAreBounded(t *testing.T) {
	w := newWarnings(false)
	for i := range 3 * maxWarnings {
		require.True(t, w.due(warning{name: fmt.Sprint(i)}, now.Add(time.Duration(i)*time.Millisecond)))
		require.LessOrEqual(t, len(w.told), maxWarnings)
	}
}

// sink gathers what a watcher tells.
type sink struct {
	mu      sync.Mutex
	changes []mesh.Change
	gone    []string
}

func (s *sink) Changed(changes []mesh.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, changes...)
}

func (s *sink) NodeGone(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = append(s.gone, node)
}

func (s *sink) has(reason mesh.ChangeReason, name string) func() bool {
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.changes {
			if c.Reason == reason && c.Name == name {
				return true
			}
		}
		return false
	}
}

func TestWatcher(t *testing.T) {
	old := newDeployment()
	api := fake.NewClientset(old, newNode(), newPod())
	out := &sink{}
	w, err := New(api, Config{Workloads: true, Pods: true, Nodes: true, Events: true, Namespaces: []string{"shop", "data"}},
		func(string, error) {}, out, func() time.Time { return now })
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	kubetest.Eventually(t, "the start", func() bool {
		for _, informer := range w.informers {
			if !informer.Synced() {
				return false
			}
		}
		return true
	})
	assert.Empty(t, out.changes, "what was there is no change")
	_, err = api.AppsV1().Deployments("shop").Update(t.Context(), newDeployment(func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Image = "shop/catalog:2"
	}), metav1.UpdateOptions{})
	require.NoError(t, err)
	_, err = api.CoreV1().Events("shop").Create(t.Context(), newEvent("Unhealthy", ago(0)), metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, api.CoreV1().Nodes().Delete(t.Context(), "node-a", metav1.DeleteOptions{}))
	_, err = api.AppsV1().StatefulSets("data").Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "postgres"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = api.AppsV1().DaemonSets("else").Create(t.Context(), &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "else", Name: "other"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	kubetest.Eventually(t, "the rollout", out.has(mesh.ChangeRollout, "catalog-v1"))
	kubetest.Eventually(t, "the event", out.has(mesh.ChangeEvent, "catalog-v1-7d88-a"))
	kubetest.Eventually(t, "the node's end", out.has(mesh.ChangeRemoved, "node-a"))
	kubetest.Eventually(t, "the new workload", out.has(mesh.ChangeCreated, "postgres"))
	out.mu.Lock()
	defer out.mu.Unlock()
	assert.Equal(t, []string{"node-a"}, out.gone)
	for _, c := range out.changes {
		assert.NotEqual(t, "other", c.Name, "another namespace")
	}
}
