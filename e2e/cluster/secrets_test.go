package cluster

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/base64"
	"net/netip"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nephilia/nephilia/e2e/cluster/internal/kubelet"
)

// password is that of the API's user.
const password = "of-the-graph"

// createSecrets creates what the chart's options name: a certificate for the gateways and the API's users.
func createSecrets(t *testing.T, c *cluster) {
	t.Helper()
	certificate, key, err := c.control.Authority.Issue("gateway", pkix.Name{CommonName: "nephilia-gateway"}, []string{"*.nephilia-gateway." + namespace + ".svc"})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for name, path := range map[string]string{"tls.crt": certificate, "tls.key": key, "ca.crt": c.control.Authority.Path()} {
		if files[name], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	hash := sha1.Sum([]byte(password)) //nolint:gosec // One of the forms that htpasswd files have.
	for name, data := range map[string]map[string][]byte{
		"nephilia-tls":   files,
		"nephilia-users": {"htpasswd": []byte("viewer:{SHA}" + base64.StdEncoding.EncodeToString(hash[:]) + "\n")},
	} {
		_, err := c.control.Client.CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// handshake connects to a gateway as agents do.
func handshake(ctx context.Context, gateway *kubelet.Pod) error {
	connection, err := gateway.Namespace.DialContext(ctx, "tcp", netip.AddrPortFrom(gateway.Namespace.Address, 4317).String())
	if err != nil {
		return err
	}
	defer connection.Close()
	//nolint:gosec // What counts is that it speaks TLS; the agents check the certificate.
	return tls.Client(connection, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).HandshakeContext(ctx)
}

// requireClosed wants the gateways to answer nobody whom they do not know, and to speak TLS with agents.
func requireClosed(t *testing.T, c *cluster) {
	t.Helper()
	for _, gateway := range c.gateways {
		stranger := strings.Replace(api, ":"+password+"@", ":wrong@", 1)
		if err := get(gateway.Namespace, stranger+"/graph", nil, nil); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("%s answers strangers: %v", gateway.Object.Name, err)
		}
		if err := handshake(t.Context(), gateway); err != nil {
			t.Errorf("%s's OTLP: %v", gateway.Object.Name, err)
		}
	}
}
