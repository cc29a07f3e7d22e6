package cluster

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nephilia/nephilia/e2e/cluster/internal/kubelet"
)

// TestEveryRightIsNeeded takes the chart's rights away, one resource at a time, and wants the pod that had it to name what it misses.
// With all of them, nothing is missed.
func TestEveryRightIsNeeded(t *testing.T) {
	t.Parallel()
	for name, values := range map[string][]string{
		"agents":     {`kubernetes.configDump=true`},
		"standalone": {`mode="standalone"`, `kubernetes.configDump=true`},
		// Rights in some namespaces instead of all.
		"namespaces": {`kubernetes.namespaces=["shop"]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scenario{name: name, seed: 5, seconds: 240}
			c := newCluster(t, simulate(t, &s))
			c.createNamespace(t, "shop")
			c.install(t, values...)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			t.Cleanup(cancel)
			go func() { _ = c.play(ctx, time.Now()) }()
			rights := c.rights(t)
			if len(rights) == 0 {
				t.Fatal("the chart gives no rights")
			}
			for _, pod := range slices.Concat(c.gateways, c.agents) {
				c.requireNothingMissed(t, pod)
			}
			for _, r := range rights {
				c.requireNeeded(ctx, t, r)
			}
		})
	}
}

// right is one resource of one rule of one role, and who has it.
type right struct {
	role     string // its kind and name
	resource string
	account  string
	take     func(context.Context) error
	restore  func(context.Context) error
}

// rights are all those that the chart gives.
func (c *cluster) rights(t *testing.T) (all []right) {
	t.Helper()
	ctx := t.Context()
	api := c.control.Client.RbacV1()
	ours := metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + release}
	clusterBindings, err := api.ClusterRoleBindings().List(ctx, ours)
	if err != nil {
		t.Fatal(err)
	}
	for i := range clusterBindings.Items {
		binding := &clusterBindings.Items[i]
		role, err := api.ClusterRoles().Get(ctx, binding.RoleRef.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		put := func(ctx context.Context, rules []rbacv1.PolicyRule) error {
			current, err := api.ClusterRoles().Get(ctx, role.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			current.Rules = rules
			_, err = api.ClusterRoles().Update(ctx, current, metav1.UpdateOptions{})
			return err
		}
		all = append(all, rightsOf("ClusterRole "+role.Name, binding.Subjects[0].Name, role.Rules, put)...)
	}
	bindings, err := api.RoleBindings(metav1.NamespaceAll).List(ctx, ours)
	if err != nil {
		t.Fatal(err)
	}
	for i := range bindings.Items {
		binding := &bindings.Items[i]
		role, err := api.Roles(binding.Namespace).Get(ctx, binding.RoleRef.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		put := func(ctx context.Context, rules []rbacv1.PolicyRule) error {
			current, err := api.Roles(role.Namespace).Get(ctx, role.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			current.Rules = rules
			_, err = api.Roles(role.Namespace).Update(ctx, current, metav1.UpdateOptions{})
			return err
		}
		all = append(all, rightsOf("Role "+role.Namespace+"/"+role.Name, binding.Subjects[0].Name, role.Rules, put)...)
	}
	return all
}

func rightsOf(role, account string, rules []rbacv1.PolicyRule, put func(context.Context, []rbacv1.PolicyRule) error) (all []right) {
	for i := range rules {
		for _, resource := range rules[i].Resources {
			left := make([]rbacv1.PolicyRule, len(rules))
			for j := range rules {
				left[j] = *rules[j].DeepCopy()
			}
			left[i].Resources = slices.DeleteFunc(left[i].Resources, func(r string) bool { return r == resource })
			if len(left[i].Resources) == 0 {
				left = slices.Delete(left, i, i+1)
			}
			all = append(all, right{
				role: role, resource: resource, account: account,
				take:    func(ctx context.Context) error { return put(ctx, left) },
				restore: func(ctx context.Context) error { return put(ctx, rules) },
			})
		}
	}
	return all
}

// podOf is a pod that runs as a service account.
func (c *cluster) podOf(t *testing.T, account string) *kubelet.Pod {
	t.Helper()
	for _, pod := range slices.Concat(c.gateways, c.agents) {
		if pod.Object.Spec.ServiceAccountName == account {
			return pod
		}
	}
	t.Fatalf("no pod runs as %s", account)
	return nil
}

// requireNeeded restarts a pod without a right.
func (c *cluster) requireNeeded(ctx context.Context, t *testing.T, r right) {
	t.Helper()
	if err := r.take(ctx); err != nil {
		t.Fatal(err)
	}
	pod := c.podOf(t, r.account)
	before := c.restart(t, pod)
	eventually(t, fmt.Sprintf("%s: %s is missed", r.role, r.resource), func() error {
		if said := forbidden(t, pod, before); !strings.Contains(said, r.resource) {
			return fmt.Errorf("%s does not name it; it names: %s", pod.Object.Name, said)
		}
		return nil
	})
	if err := r.restore(ctx); err != nil {
		t.Fatal(err)
	}
}

// restart restarts a pod's container and returns where its log was.
func (c *cluster) restart(t *testing.T, pod *kubelet.Pod) int64 {
	t.Helper()
	if err := pod.Stop(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(pod.Log())
	if err != nil {
		t.Fatal(err)
	}
	if err := pod.Start(); err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// forbidden is what a pod's log says of what it may not do, from a byte on.
func forbidden(t *testing.T, pod *kubelet.Pod, from int64) string {
	t.Helper()
	content, err := os.ReadFile(pod.Log())
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for line := range strings.Lines(string(content[from:])) {
		if strings.Contains(line, "forbidden") {
			said = append(said, strings.TrimSpace(line))
		}
	}
	return strings.Join(said, "\n")
}

// requireNothingMissed wants a pod to have worked for a while without being refused anything.
func (c *cluster) requireNothingMissed(t *testing.T, pod *kubelet.Pod) {
	t.Helper()
	before := c.restart(t, pod)
	c.awaitReady(t, pod)
	time.Sleep(3 * time.Second)
	if said := forbidden(t, pod, before); said != "" {
		t.Errorf("%s lacks a right: %s", pod.Object.Name, said)
	}
}
