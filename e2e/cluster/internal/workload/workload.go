// Package workload does what Kubernetes's controllers do with a chart's DaemonSets and StatefulSets: it creates their
// pods. Objects come from rendered manifests and are validated strictly by the API server.
package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
)

// Decode reads the objects of a multi-document manifest.
func Decode(manifest []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading a manifest: %w", err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// Applier creates objects of any kind that the API server knows.
type Applier struct {
	client dynamic.Interface
	mapper meta.RESTMapper
}

// NewApplier asks the API server for its kinds.
func NewApplier(client kubernetes.Interface, objects dynamic.Interface) (*Applier, error) {
	groups, err := restmapper.GetAPIGroupResources(client.Discovery())
	if err != nil {
		return nil, fmt.Errorf("asking for the API's kinds: %w", err)
	}
	return &Applier{client: objects, mapper: restmapper.NewDiscoveryRESTMapper(groups)}, nil
}

// Create creates an object; unknown and duplicate fields are errors.
func (a *Applier) Create(ctx context.Context, object *unstructured.Unstructured) error {
	return a.create(ctx, object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
}

// DryRun lets the API server check an object as Create would.
func (a *Applier) DryRun(ctx context.Context, object *unstructured.Unstructured) error {
	return a.create(ctx, object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict, DryRun: []string{metav1.DryRunAll}})
}

func (a *Applier) create(ctx context.Context, object *unstructured.Unstructured, options metav1.CreateOptions) error {
	resource, err := a.resource(object)
	if err != nil {
		return err
	}
	if _, err := resource.Create(ctx, object, options); err != nil {
		return fmt.Errorf("creating %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// Delete removes an object.
func (a *Applier) Delete(ctx context.Context, object *unstructured.Unstructured) error {
	resource, err := a.resource(object)
	if err != nil {
		return err
	}
	if err := resource.Delete(ctx, object.GetName(), metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("deleting %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

func (a *Applier) resource(object *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := object.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, fmt.Errorf("finding the resource of %s: %w", kind, err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return a.client.Resource(mapping.Resource), nil
	}
	return a.client.Resource(mapping.Resource).Namespace(object.GetNamespace()), nil
}

// DaemonPod creates the pod of a DaemonSet on a node.
func DaemonPod(ctx context.Context, client kubernetes.Interface, set *appsv1.DaemonSet, node string) (*corev1.Pod, error) {
	pod := newPod(set.Name+"-"+node, set.Namespace, &set.Spec.Template)
	pod.GenerateName = set.Name + "-"
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))}
	pod.Spec.NodeName = node
	return create(ctx, client, pod)
}

// DeploymentPod creates the only pod of a Deployment on a node.
func DeploymentPod(ctx context.Context, client kubernetes.Interface, deployment *appsv1.Deployment, node string) (*corev1.Pod, error) {
	const hash = "6c8f7d9b5"
	pod := newPod(deployment.Name+"-"+hash+"-x2z4q", deployment.Namespace, &deployment.Spec.Template)
	pod.GenerateName = deployment.Name + "-" + hash + "-"
	pod.Labels["pod-template-hash"] = hash
	controller := true
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "apps/v1", Kind: "ReplicaSet", Name: deployment.Name + "-" + hash, UID: deployment.UID, Controller: &controller,
	}}
	pod.Spec.NodeName = node
	return create(ctx, client, pod)
}

// StatefulPod creates a pod of a StatefulSet, with its claims, on a node.
func StatefulPod(ctx context.Context, client kubernetes.Interface, set *appsv1.StatefulSet, ordinal int, node string) (*corev1.Pod, error) {
	pod := newPod(fmt.Sprintf("%s-%d", set.Name, ordinal), set.Namespace, &set.Spec.Template)
	pod.GenerateName = set.Name + "-"
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))}
	pod.Spec.NodeName = node
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	for i := range set.Spec.VolumeClaimTemplates {
		template := &set.Spec.VolumeClaimTemplates[i]
		claim := &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: template.Name + "-" + pod.Name, Namespace: set.Namespace}, Spec: template.Spec,
		}
		if _, err := client.CoreV1().PersistentVolumeClaims(set.Namespace).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
			return nil, fmt.Errorf("creating claim %s: %w", claim.Name, err)
		}
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: template.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name},
		}})
	}
	return create(ctx, client, pod)
}

func newPod(name, namespace string, template *corev1.PodTemplateSpec) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: template.Labels, Annotations: template.Annotations},
		Spec:       *template.Spec.DeepCopy(),
	}
}

func create(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) (*corev1.Pod, error) {
	created, err := client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		return nil, fmt.Errorf("creating pod %s: %w", pod.Name, err)
	}
	return created, nil
}
