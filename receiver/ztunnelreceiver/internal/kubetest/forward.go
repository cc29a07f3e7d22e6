package kubetest

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// SetPort lets a port of a pod's localhost lead to an address; empty takes it away.
func (s *Server) SetPort(namespace, name, port, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports[namespace+"/"+name+":"+port] = address
}

// forward answers as a kubelet does that forwards ports.
func (s *Server) forward(ctx context.Context, w http.ResponseWriter, r *http.Request, pod string) error {
	if r.Method != http.MethodPost {
		return apierrors.NewMethodNotSupported(noResource, r.Method)
	}
	if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
		return nil //nolint:nilerr // Handshake has answered
	}
	streams := make(chan httpstream.Stream, 16)
	connection := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, _ <-chan struct{}) error {
		streams <- stream
		return nil
	})
	if connection == nil {
		return nil
	}
	defer func() { _ = connection.Close() }()
	var complaints httpstream.Stream
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case stream := <-streams:
			if stream.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
				complaints = stream
				continue
			}
			s.mu.Lock()
			address := s.ports[pod+":"+stream.Headers().Get(corev1.PortHeader)]
			s.mu.Unlock()
			target, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
			if err != nil {
				_, _ = io.WriteString(complaints, "connection refused")
				_ = complaints.Close()
				continue
			}
			wg.Go(func() {
				_, _ = io.Copy(target, stream)
				target.Close()
			})
			wg.Go(func() {
				_, _ = io.Copy(stream, target)
				_ = stream.Close()
				_ = complaints.Close()
			})
		case <-connection.CloseChan():
			return nil
		case <-ctx.Done():
			return connection.Close()
		}
	}
}
