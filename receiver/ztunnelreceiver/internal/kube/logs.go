package kube

import (
	"cmp"
	"context"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// LogOptions say which part of a log is wanted.
type LogOptions struct {
	// Since is the second from which it is; zero is the beginning.
	Since time.Time
	// Previous is the log of the container before its last restart, which ends. The present one is followed.
	Previous bool
	// Last is the log's last line only.
	Last bool
}

// Logs opens the logs of pods' containers through the API server.
type Logs struct{ API kubernetes.Interface }

// Open opens a log, each line with its time in front. One without a line does not answer before it has one.
func (l Logs) Open(ctx context.Context, pod Pod, o LogOptions) (io.ReadCloser, error) {
	options := &corev1.PodLogOptions{Container: cmp.Or(pod.Container, Container), Follow: !o.Previous, Previous: o.Previous, Timestamps: true}
	if !o.Since.IsZero() {
		since := metav1.NewTime(o.Since)
		options.SinceTime = &since
	}
	if o.Last {
		one := int64(1)
		options.TailLines = &one
	}
	return l.API.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
}
