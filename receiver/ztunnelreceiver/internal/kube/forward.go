package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

const (
	forwardProtocol = "portforward.k8s.io"
	// maxForwardError bounds what is read of a kubelet's complaint.
	maxForwardError = 1 << 10
	// complaintTimeout bounds how long the end of the data waits for the complaint, which comes by a stream of its own.
	complaintTimeout = 5 * time.Second
)

// Forward opens a connection to a port on the localhost of a pod, through the API server and the pod's kubelet. It needs the right to
// create pods/portforward.
func (c *Clients) Forward(ctx context.Context, pod Pod, port uint16) (net.Conn, error) {
	transport, upgrader, err := spdy.RoundTripperFor(c.Config)
	if err != nil {
		return nil, fmt.Errorf("forwarding a port: %w", err)
	}
	url := c.API.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("forwarding a port: %w", err)
	}
	connection, _, err := spdy.NegotiateStreaming(upgrader, &http.Client{Transport: transport}, request, forwardProtocol)
	if err != nil {
		return nil, fmt.Errorf("forwarding a port of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	forwarded, err := newForwarded(connection, port)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("forwarding a port of pod %s/%s: %w", pod.Namespace, pod.Name, err), connection.Close())
	}
	return forwarded, nil
}

// forwarded is a connection through a stream of data beside one of errors.
type forwarded struct {
	httpstream.Stream
	connection httpstream.Connection
	port       uint16
	close      sync.Once
	failed     chan struct{}
	failure    error
}

func newForwarded(connection httpstream.Connection, port uint16) (*forwarded, error) {
	header := http.Header{}
	header.Set(corev1.PortHeader, strconv.Itoa(int(port)))
	header.Set(corev1.PortForwardRequestIDHeader, "0")
	header.Set(corev1.StreamType, corev1.StreamTypeError)
	complaints, err := connection.CreateStream(header)
	if err != nil {
		return nil, err
	}
	// Nothing is written to it.
	if err := complaints.Close(); err != nil {
		return nil, err
	}
	header.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := connection.CreateStream(header)
	if err != nil {
		return nil, err
	}
	f := &forwarded{Stream: data, connection: connection, port: port, failed: make(chan struct{})}
	go func() {
		text, err := io.ReadAll(io.LimitReader(complaints, maxForwardError))
		if err == nil && len(text) > 0 {
			f.failure = fmt.Errorf("port %d: %s", port, text)
		}
		close(f.failed)
		if f.failure != nil {
			_ = f.Close()
		}
	}()
	return f, nil
}

// Read implements net.Conn.
func (f *forwarded) Read(data []byte) (int, error) {
	n, err := f.Stream.Read(data)
	if err != nil && n == 0 {
		select {
		case <-f.failed:
			if f.failure != nil {
				err = f.failure
			}
		case <-time.After(complaintTimeout):
		}
	}
	return n, err
}

// Close implements net.Conn.
func (f *forwarded) Close() (err error) {
	f.close.Do(func() {
		_ = f.Reset()
		err = f.connection.Close()
	})
	return err
}

// LocalAddr implements net.Conn.
func (*forwarded) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn.
func (f *forwarded) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(f.port)}
}

// SetDeadline implements net.Conn, without effect: who uses it closes it when it lasts too long.
func (*forwarded) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn, without effect.
func (*forwarded) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn, without effect.
func (*forwarded) SetWriteDeadline(time.Time) error { return nil }
