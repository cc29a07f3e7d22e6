package topologyquery

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/basicauthextension"
	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/bearertokenauthextension"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/extensiontest"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/metadata"
)

// host has extensions.
type host struct {
	component.Host
	extensions map[component.ID]component.Component
}

func (h host) GetExtensions() map[component.ID]component.Component { return h.extensions }

func TestNothingIsServedWithoutCredentials(t *testing.T) {
	for name, test := range map[string]struct {
		factory   extension.Factory
		config    map[string]any
		header    string
		wrong     []string
		challenge string
	}{
		"basic": {
			basicauthextension.NewFactory(),
			map[string]any{"htpasswd": map[string]any{"inline": "ada:secret"}},
			"Basic YWRhOnNlY3JldA==",
			[]string{"", "Basic YWRhOndyb25n", "Bearer secret"},
			`Basic realm="Nephilia", charset="UTF-8"`,
		},
		"bearer": {
			bearertokenauthextension.NewFactory(),
			map[string]any{"token": "secret"},
			"Bearer secret",
			[]string{"", "Bearer wrong", "Basic YWRhOnNlY3JldA=="},
			`Bearer realm="Nephilia"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			id := component.NewID(test.factory.Type())
			authConfig := test.factory.CreateDefaultConfig()
			require.NoError(t, confmap.NewFromStringMap(test.config).Unmarshal(authConfig))
			authenticator, err := test.factory.Create(t.Context(), extensiontest.NewNopSettings(test.factory.Type()), authConfig)
			require.NoError(t, err)
			require.NoError(t, authenticator.Start(t.Context(), componenttest.NewNopHost()))
			t.Cleanup(func() { require.NoError(t, authenticator.Shutdown(context.Background())) })

			config := createDefaultConfig().(*Config)
			config.HTTP.NetAddr.Endpoint = "127.0.0.1:0"
			auth := confighttp.AuthConfig{}
			auth.AuthenticatorID = id
			config.HTTP.Auth = configoptional.Some(auth)
			e, err := newExtension(extensiontest.NewNopSettings(metadata.Type), config)
			require.NoError(t, err)
			require.NoError(t, e.Start(t.Context(), host{componenttest.NewNopHost(), map[component.ID]component.Component{id: authenticator}}))
			t.Cleanup(func() { require.NoError(t, e.Shutdown(context.Background())) })
			base := "http://" + e.listener.Addr().String()

			paths := []string{"/", "/graph", "/favicon.svg", "/api/v1/events", "/nothing.js"}
			for path := range readDescription(t).paths {
				paths = append(paths, strings.NewReplacer("{namespace}", "a", "{name}", "b", "{id}", "c").Replace(path))
			}
			for _, path := range paths {
				for _, wrong := range test.wrong {
					response, _ := answered(t, base+path, "Authorization", wrong)
					assert.Equal(t, http.StatusUnauthorized, response.StatusCode, "%s with %q", path, wrong)
					assert.Equal(t, test.challenge, response.Header.Get("WWW-Authenticate"))
				}
			}
			response, _ := answered(t, base+"/api/v1/status", "Authorization", test.header)
			assert.Equal(t, http.StatusOK, response.StatusCode)
			events, stop := follow(t, base+"/api/v1/events", "Authorization", test.header)
			next(t, events, "hello")
			stop()
		})
	}
}

func TestReadOnly(t *testing.T) {
	_, base := start(t, nil)
	for _, path := range []string{"/", "/api/v1/status", "/api/v1/graph", "/api/v1/events", "/api/v1/nothing"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions} {
			request, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
			require.NoError(t, err)
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			assert.Equal(t, http.StatusMethodNotAllowed, response.StatusCode, "%s %s", method, path)
			assert.Equal(t, "GET, HEAD", response.Header.Get("Allow"))
		}
		response, err := http.Head(base + path)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.NotEqual(t, http.StatusMethodNotAllowed, response.StatusCode)
	}
}

func TestHeaders(t *testing.T) {
	_, base := start(t, nil)
	for _, path := range []string{"/", "/api/v1/status", "/api/v1/nothing"} {
		response, _ := answered(t, base+path, "Origin", "https://elsewhere.example")
		policy := response.Header.Get("Content-Security-Policy")
		assert.Contains(t, policy, "default-src 'none'")
		assert.NotContains(t, policy, "unsafe")
		assert.Equal(t, "nosniff", response.Header.Get("X-Content-Type-Options"))
		assert.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
	}
	_, page := answered(t, base+"/")
	for tag := range strings.SplitSeq(string(page), "<script") {
		_, inline, isScript := strings.Cut(tag, ">")
		assert.True(t, !isScript || !strings.Contains(inline, "</script>") || strings.HasPrefix(inline, "</script>"), "inline script: %s", tag)
	}
	assert.NotContains(t, string(page), "<style")
	assert.NotRegexp(t, `\son[a-z]+=`, string(page))
}

// TestBasePath serves under a path, for a proxy that takes it away and for one that does not, and in a frame.
func TestBasePath(t *testing.T) {
	_, root := start(t, func(c *Config) {
		c.HTTP.BasePath, c.HTTP.FrameAncestors = "/a/mesh", []string{"'self'", "https://grafana.example"}
	})
	for _, base := range []string{root, root + "/a/mesh"} {
		response, _ := answered(t, base+"/api/v1/status")
		require.Equal(t, http.StatusOK, response.StatusCode)
		assert.Contains(t, response.Header.Get("Content-Security-Policy"), "frame-ancestors 'self' https://grafana.example")
		for _, path := range []string{"/", "/outages/7"} {
			_, page := answered(t, base+path, "Accept", "text/html")
			assert.Contains(t, string(page), `content="/a/mesh/"`)
			script := regexp.MustCompile(`src="(/a/mesh/assets/[^"]+)"`).FindSubmatch(page)
			require.NotNil(t, script, string(page))
			response, _ := answered(t, root+string(script[1]))
			assert.Equal(t, http.StatusOK, response.StatusCode)
		}
	}
	response, _ := answered(t, root+"/a/mesh") // and on to the slash
	assert.Equal(t, "/a/mesh/", response.Request.URL.Path)
	response, _ = answered(t, root+"/a/meshes/api/v1/status")
	assert.Equal(t, http.StatusNotFound, response.StatusCode)
}

func TestCompression(t *testing.T) {
	e, base := start(t, nil)
	play(t, e, "baseline")
	_, plain := answered(t, base+"/api/v1/graph", "Accept-Encoding", "identity")
	response, zipped := answered(t, base+"/api/v1/graph", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", response.Header.Get("Content-Encoding"))
	reader, err := gzip.NewReader(bytes.NewReader(zipped))
	require.NoError(t, err)
	unzipped, err := io.ReadAll(reader)
	require.NoError(t, err)
	assert.Equal(t, plain, unzipped)
	assert.Less(t, len(zipped), len(plain)/4)
	refused, body := answered(t, base+"/api/v1/graph", "Accept-Encoding", "gzip;q=0")
	assert.Empty(t, refused.Header.Get("Content-Encoding"))
	assert.Equal(t, plain, body)
}

func TestUI(t *testing.T) {
	_, base := start(t, nil)
	page, body := answered(t, base+"/")
	require.Equal(t, http.StatusOK, page.StatusCode)
	assert.Contains(t, page.Header.Get("Content-Type"), "text/html")
	assert.Contains(t, page.Header.Get("Cache-Control"), "no-cache")
	for _, route := range []string{"/graph", "/outages/abc", "/workloads/shop/cart-v1"} {
		response, same := answered(t, base+route, "Accept", "text/html")
		assert.Equal(t, http.StatusOK, response.StatusCode)
		assert.Equal(t, body, same)
	}
	assets, err := os.ReadDir("ui/dist/assets")
	require.NoError(t, err)
	require.NotEmpty(t, assets)
	for _, asset := range assets {
		response, content := answered(t, base+"/assets/"+asset.Name())
		assert.Equal(t, http.StatusOK, response.StatusCode)
		assert.Contains(t, response.Header.Get("Cache-Control"), "immutable")
		file, err := os.ReadFile(filepath.Join("ui/dist/assets", asset.Name()))
		require.NoError(t, err)
		assert.Len(t, content, len(file), asset.Name())
	}
	for _, path := range []string{"/assets/none.js", "/.git", "/..%2f..%2fgo.mod", "/metrics", "/kiali/api/status", "/graph"} {
		response, _ := answered(t, base+path)
		assert.Equal(t, http.StatusNotFound, response.StatusCode, path)
		assert.Equal(t, "application/problem+json", response.Header.Get("Content-Type"), path)
	}
}

func TestHosts(t *testing.T) {
	for name, test := range map[string]struct {
		endpoint string
		allowed  []string
		want     map[string]int
	}{
		"loopback": {"127.0.0.1:0", nil, map[string]int{"localhost": 200, "127.0.0.1": 200, "evil.example": 421}},
		"loopback with a name": {
			"localhost:0", []string{"mesh.example"}, map[string]int{"localhost": 200, "mesh.example": 200, "evil.example": 421},
		},
		"any address":             {"0.0.0.0:0", nil, map[string]int{"localhost": 200, "anything.example": 200}},
		"any address with a name": {"0.0.0.0:0", []string{"mesh.example"}, map[string]int{"mesh.example:80": 200, "10.0.0.1": 200, "evil.example": 421}},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := start(t, func(c *Config) { c.HTTP.NetAddr.Endpoint, c.HTTP.AllowedHosts = test.endpoint, test.allowed })
			_, port, err := net.SplitHostPort(e.listener.Addr().String())
			require.NoError(t, err)
			for _, path := range []string{"/", "/api/v1/status", "/api/v1/events"} {
				for host, status := range test.want {
					request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://127.0.0.1:"+port+path, nil)
					require.NoError(t, err)
					request.Host = host
					response, err := http.DefaultClient.Do(request)
					require.NoError(t, err)
					require.NoError(t, response.Body.Close())
					assert.Equal(t, status, response.StatusCode, "%s of %s", path, host)
				}
			}
		})
	}
}

func TestDependenciesSayWhatIsWrong(t *testing.T) {
	_, base := start(t, nil)
	_, body := answered(t, base+"/api/dependencies?endTs=abc")
	assert.Contains(t, string(body), "endTs: must be a whole number of milliseconds")
}

func TestTooManyEventClientsAreTurnedAway(t *testing.T) {
	e, base := start(t, func(c *Config) { c.Events.MaxClients = 1 })
	_, stop := follow(t, base+"/api/v1/events")
	defer stop()
	response, body := answered(t, base+"/api/v1/events")
	assert.Equal(t, http.StatusServiceUnavailable, response.StatusCode, "%s", body)
	assert.NotEmpty(t, response.Header.Get("Retry-After"))
	require.Equal(t, 1, e.stores.Events.Clients())
}

func TestPages(t *testing.T) {
	e, base := start(t, nil)
	play(t, e, "baseline")
	for _, list := range []string{"workloads", "services", "nodes"} {
		var all, part map[string]any
		getJSON(t, base+"/api/v1/"+list, http.StatusOK, &all)
		var names []any
		for cursor := ""; ; {
			part = nil
			getJSON(t, fmt.Sprintf("%s/api/v1/%s?limit=2&cursor=%s", base, list, cursor), http.StatusOK, &part)
			require.LessOrEqual(t, len(part[list].([]any)), 2)
			require.Equal(t, all["total"], part["total"])
			names = append(names, part[list].([]any)...)
			next, ok := part["next_cursor"]
			if !ok {
				break
			}
			cursor = next.(string)
		}
		assert.Equal(t, all[list], names)
	}
	var all, part map[string]any
	getJSON(t, base+"/api/v1/traces?limit=1000&layer=l7", http.StatusOK, &all)
	var found []any
	for cursor := ""; len(found) < 150; {
		part = nil
		getJSON(t, base+"/api/v1/traces?limit=60&layer=l7&cursor="+cursor, http.StatusOK, &part)
		require.Len(t, part["traces"], 60)
		found = append(found, part["traces"].([]any)...)
		cursor = part["next_cursor"].(string)
	}
	assert.Equal(t, all["traces"].([]any)[:len(found)], found)
}

func TestLimits(t *testing.T) {
	e, base := start(t, nil)
	play(t, e, "policy-deny")
	for path, list := range map[string]string{
		"workloads": "workloads", "services": "services", "policies": "policies", "nodes": "nodes",
		"outages": "outages", "flows": "flows", "traces": "traces",
	} {
		t.Run(path, func(t *testing.T) {
			var body map[string]any
			getJSON(t, base+"/api/v1/"+path+"?limit=1", http.StatusOK, &body)
			assert.Len(t, body[list], 1)
			for _, limit := range []string{"0", "-1", "100000", "many"} {
				getJSON(t, base+"/api/v1/"+path+"?limit="+limit, http.StatusBadRequest, nil)
			}
		})
	}
}

func TestPoliciesThatAreGoneAreListedWhereTheyDenied(t *testing.T) {
	e, base := start(t, nil)
	play(t, e, "policy-deny")
	var body struct {
		Policies []struct {
			Namespace, Name, Action string
			Present                 bool
			Selects, Denied         int
		}
		Total int
	}
	getJSON(t, base+"/api/v1/policies", http.StatusOK, &body)
	require.Equal(t, 1, body.Total)
	policy := body.Policies[0]
	assert.Equal(t, "billing/no-checkout", policy.Namespace+"/"+policy.Name)
	assert.Equal(t, "DENY", policy.Action)
	assert.False(t, policy.Present)
	assert.Zero(t, policy.Selects)
	assert.Equal(t, 65, policy.Denied)
}
