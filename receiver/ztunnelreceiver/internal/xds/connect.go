package xds

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// maxCredentialBytes bounds files of certificates and tokens.
const maxCredentialBytes = 1 << 20

// dial makes a connection of its own for every stream, so that changed certificates and addresses take effect.
func (c Config) dial() (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if c.TLS != nil {
		config, err := c.TLS.config()
		if err != nil {
			return nil, err
		}
		transport = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient(c.Endpoint,
		grpc.WithTransportCredentials(transport),
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("nephilia"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(c.MaxMessageBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: c.KeepaliveTime, Timeout: c.KeepaliveTimeout}),
	)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", c.Endpoint, err)
	}
	return conn, nil
}

func (t *TLS) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := readCredential(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading CA certificates: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading CA certificates: none in %s", t.CAFile)
		}
	}
	return config, nil
}

// authorize adds the token's headers to a stream's context.
func (c Config) authorize(ctx context.Context) (context.Context, error) {
	if c.TLS == nil || c.TLS.TokenFile == "" {
		return ctx, nil
	}
	token, err := readCredential(c.TLS.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("reading token: %w", err)
	}
	token = bytes.TrimSpace(token)
	if len(token) == 0 {
		return nil, fmt.Errorf("reading token: %s is empty", c.TLS.TokenFile)
	}
	for _, b := range token {
		if b <= ' ' || b > '~' {
			return nil, fmt.Errorf("reading token: %s holds no token", c.TLS.TokenFile)
		}
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+string(token), "clusterid", c.Node.ClusterID), nil
}

func readCredential(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxCredentialBytes+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxCredentialBytes {
		return nil, errors.New(path + " is too large")
	}
	return raw, nil
}
