package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volume makes a volume's folder, with what belongs into it, and returns its path.
func (p *Pod) volume(ctx context.Context, name string) (string, error) {
	for i := range p.Object.Spec.Volumes {
		v := &p.Object.Spec.Volumes[i]
		if v.Name != name {
			continue
		}
		folder := filepath.Join(p.folder, "volumes", name)
		switch {
		case v.HostPath != nil:
			return p.hostPath(v.HostPath)
		case v.EmptyDir != nil:
			return folder, p.own(folder)
		case v.PersistentVolumeClaim != nil:
			folder = filepath.Join(p.runner.Folder, "claims", v.PersistentVolumeClaim.ClaimName)
			return folder, p.own(folder)
		case v.Secret != nil:
			return folder, p.secret(ctx, folder, v.Secret)
		case v.ConfigMap != nil:
			return folder, p.configMap(ctx, folder, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
		case v.Projected != nil:
			return folder, p.project(ctx, folder, v.Projected.Sources)
		}
		return "", fmt.Errorf("a volume of an unknown kind: %+v", v)
	}
	return "", fmt.Errorf("pod %s has no such volume", p.Object.Name)
}

// hostPath maps the few paths of a node that a collector may ask for.
func (p *Pod) hostPath(source *corev1.HostPathVolumeSource) (string, error) {
	if p.kubelet == nil {
		return "", fmt.Errorf("pod %s has no node", p.Object.Name)
	}
	if source.Path == "/var/log/pods" {
		return p.kubelet.Logs, nil
	}
	folder := filepath.Join(filepath.Dir(filepath.Dir(p.kubelet.Logs)), "host", source.Path)
	if source.Type != nil && *source.Type == corev1.HostPathDirectoryOrCreate {
		return folder, os.MkdirAll(folder, 0o755)
	}
	return folder, nil
}

// own makes a folder into which the pod's fsGroup may write, and without one nobody but root, as kubelets do for most
// kinds of claims; an emptyDir anybody may write into.
func (p *Pod) own(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if c := p.Object.Spec.SecurityContext; c != nil && c.FSGroup != nil {
		if err := os.Chown(folder, 0, int(*c.FSGroup)); err != nil {
			return err
		}
		return os.Chmod(folder, 0o775|os.ModeSetgid)
	}
	if filepath.Base(filepath.Dir(folder)) == "volumes" {
		return os.Chmod(folder, 0o777)
	}
	return nil
}

func (p *Pod) configMap(ctx context.Context, folder, name string, items []corev1.KeyToPath, optional *bool) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	configMap, err := p.runner.Client.CoreV1().ConfigMaps(p.Object.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		if optional != nil && *optional {
			return nil
		}
		return fmt.Errorf("reading ConfigMap %s: %w", name, err)
	}
	return writeItems(folder, configMap.Data, items)
}

func (p *Pod) secret(ctx context.Context, folder string, source *corev1.SecretVolumeSource) error {
	secret, err := p.runner.Client.CoreV1().Secrets(p.Object.Namespace).Get(ctx, source.SecretName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", source.SecretName, err)
	}
	return writeItems(folder, secret.Data, source.Items)
}

// writeItems writes the items that are asked for, all of them without any.
func writeItems[T string | []byte](folder string, data map[string]T, items []corev1.KeyToPath) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if len(items) == 0 {
		for key := range data {
			items = append(items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	for _, item := range items {
		content, ok := data[item.Key]
		if !ok {
			return fmt.Errorf("there is no key %s", item.Key)
		}
		path := filepath.Join(folder, item.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pod) project(ctx context.Context, folder string, sources []corev1.VolumeProjection) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for i := range sources {
		source := &sources[i]
		switch {
		case source.ServiceAccountToken != nil:
			if err := p.writeToken(ctx, folder, source.ServiceAccountToken); err != nil {
				return err
			}
		case source.ConfigMap != nil:
			if err := p.configMap(ctx, folder, source.ConfigMap.Name, source.ConfigMap.Items, source.ConfigMap.Optional); err != nil {
				return err
			}
		case source.DownwardAPI != nil:
			for _, item := range source.DownwardAPI.Items {
				value, err := p.resolve(&p.Object.Spec.Containers[0], &corev1.EnvVarSource{FieldRef: item.FieldRef, ResourceFieldRef: item.ResourceFieldRef})
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(folder, item.Path), []byte(value), 0o644); err != nil {
					return err
				}
			}
		default:
			return fmt.Errorf("a projection of an unknown kind: %+v", source)
		}
	}
	return nil
}

// writeToken asks the API server for a token that is bound to the pod and puts it in place in one step.
func (p *Pod) writeToken(ctx context.Context, folder string, projection *corev1.ServiceAccountTokenProjection) error {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: projection.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Object.Name, UID: p.Object.UID},
	}}
	if projection.Audience != "" {
		request.Spec.Audiences = []string{projection.Audience}
	}
	answer, err := p.runner.Client.CoreV1().ServiceAccounts(p.Object.Namespace).CreateToken(ctx, p.Object.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("asking for a token: %w", err)
	}
	token := answer.Status.Token
	if p.runner.Tokens != nil {
		if token, err = p.runner.Tokens(token); err != nil {
			return fmt.Errorf("changing a token: %w", err)
		}
	}
	path := filepath.Join(folder, projection.Path)
	temporary := path + ".new"
	if err := os.WriteFile(temporary, []byte(token), 0o600); err != nil {
		return err
	}
	// Only the container's user can read it.
	if err := os.Chown(temporary, int(p.uid), -1); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// RenewTokens puts new tokens in place of the pod's, as the kubelet does before they expire.
func (p *Pod) RenewTokens(ctx context.Context) error {
	for i := range p.Object.Spec.Volumes {
		v := &p.Object.Spec.Volumes[i]
		if v.Projected == nil {
			continue
		}
		for j := range v.Projected.Sources {
			if projection := v.Projected.Sources[j].ServiceAccountToken; projection != nil {
				if err := p.writeToken(ctx, filepath.Join(p.folder, "volumes", v.Name), projection); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
