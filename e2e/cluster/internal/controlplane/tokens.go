package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IstioAudience is the audience of the tokens that istiod takes.
const IstioAudience = "istio-ca"

// ShortLived returns a function that gives the tokens for istiod a life that is shorter than the ten minutes that the
// API server insists on, with the API server's own key. Other tokens stay as they are.
func (c *ControlPlane) ShortLived(life time.Duration) func(string) (string, error) {
	return func(token string) (string, error) {
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			return "", errors.New("that is no token")
		}
		content, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			return "", fmt.Errorf("decoding a token: %w", err)
		}
		claims := map[string]any{}
		if err := json.Unmarshal(content, &claims); err != nil {
			return "", fmt.Errorf("reading a token: %w", err)
		}
		if audiences, _ := claims["aud"].([]any); !slices.Contains(audiences, any(IstioAudience)) {
			return token, nil
		}
		now := time.Now()
		claims["iat"], claims["nbf"], claims["exp"] = now.Unix(), now.Unix(), now.Add(life).Unix()
		if content, err = json.Marshal(claims); err != nil {
			return "", fmt.Errorf("writing a token: %w", err)
		}
		signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(content)
		signature, err := c.sign(signed)
		if err != nil {
			return "", err
		}
		return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
	}
}

// sign signs as JSON Web Tokens want it (ES256).
func (c *ControlPlane) sign(text string) ([]byte, error) {
	content, err := os.ReadFile(c.path("accounts.key"))
	if err != nil {
		return nil, fmt.Errorf("reading the service accounts' key: %w", err)
	}
	block, _ := pem.Decode(content)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing the service accounts' key: %w", err)
	}
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing a token: %w", err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signature, nil
}

// Accepts asks the API server whether a token for istiod is good, as istiod does.
func (c *ControlPlane) Accepts(ctx context.Context, token string) (bool, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{IstioAudience}}}
	answer, err := c.Client.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("asking for a review: %w", err)
	}
	return answer.Status.Authenticated, nil
}
