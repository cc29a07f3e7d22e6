// Package kubetest is a double of the Kubernetes API server and the kubelets behind it, for tests: lists and watches of objects,
// logs of pods, over TLS, with the faults that a test asks for.
package kubetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Token is what the server takes.
const Token = "a-token"

// Server is an API server.
type Server struct {
	tb   testing.TB
	http *httptest.Server
	// running ends with the server.
	running context.Context
	end     context.CancelFunc

	mu      sync.Mutex
	objects map[string]runtime.Object // by resource/namespace/name
	events  []change
	version int
	// oldest is the oldest version from which a watch can begin.
	oldest  int
	changed chan struct{}
	logs    map[string]*Log // by namespace/name
	// ports are what ports of pods' localhosts lead to, by namespace/name:port.
	ports map[string]string
	// fault answers instead of the server if it returns true.
	fault func(w http.ResponseWriter, r *http.Request) bool
	// wrap may stand between the server and who asked.
	wrap func(w http.ResponseWriter, r *http.Request) http.ResponseWriter
	seen map[string]int
}

type change struct {
	version  int
	resource string
	kind     string
	object   runtime.Object
}

// Start starts a server that ends with the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{
		tb: tb, objects: map[string]runtime.Object{}, changed: make(chan struct{}), logs: map[string]*Log{}, ports: map[string]string{}, seen: map[string]int{}, version: 1,
	}
	s.listen("127.0.0.1:0")
	tb.Cleanup(s.Stop)
	return s
}

func (s *Server) listen(address string) {
	s.tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(s.tb.Context(), "tcp", address)
	require.NoError(s.tb, err)
	s.running, s.end = context.WithCancel(context.Background())
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.handle))
	require.NoError(s.tb, s.http.Listener.Close())
	s.http.Listener = listener
	s.http.EnableHTTP2 = true
	s.http.Config.ErrorLog = silent
	s.http.StartTLS()
}

// Stop ends the server and breaks off what is under way.
func (s *Server) Stop() {
	s.end()
	s.http.CloseClientConnections()
	s.http.Close()
}

// Restart lets a stopped server listen again where it did. The objects are still there, old versions are not.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Forget()
	s.listen(s.http.Listener.Addr().String())
}

// Forget makes every watch that begins before now fail with 410 Gone, and ends those under way.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oldest = s.version
	s.events = nil
	s.wake()
}

// Fault lets a function answer instead of the server; nil ends that. It returns false for what the server is to answer.
func (s *Server) Fault(fault func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Wrap lets a function stand between the server and who asks; nil ends that.
func (s *Server) Wrap(wrap func(w http.ResponseWriter, r *http.Request) http.ResponseWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrap = wrap
}

// Seen counts the requests for a verb and a resource, such as "watch pods" or "get pods/log".
func (s *Server) Seen(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[request]
}

// Config is how to reach the server.
func (s *Server) Config() *rest.Config {
	certificate := s.http.Certificate()
	return &rest.Config{
		Host: s.http.URL, BearerToken: Token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: encodePEM(certificate.Raw), ServerName: "example.com"},
	}
}

// Kubeconfig writes a kubeconfig file with a context "test" and returns its path.
func (s *Server) Kubeconfig() string {
	s.tb.Helper()
	config := s.Config()
	file := path.Join(s.tb.TempDir(), "kubeconfig")
	require.NoError(s.tb, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"test": {
			Server: config.Host, CertificateAuthorityData: config.CAData, TLSServerName: config.ServerName,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"test": {Token: Token}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	}, file))
	return file
}

// Put creates or changes an object of a resource, such as "pods".
func (s *Server) Put(resource string, object runtime.Object) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	accessor, err := meta.Accessor(object)
	require.NoError(s.tb, err)
	object = object.DeepCopyObject()
	key := path.Join(resource, accessor.GetNamespace(), accessor.GetName())
	kind := "ADDED"
	if _, known := s.objects[key]; known {
		kind = "MODIFIED"
	}
	s.objects[key] = object
	s.happened(resource, kind, object)
}

// Delete deletes an object.
func (s *Server) Delete(resource, namespace, name string) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	key := path.Join(resource, namespace, name)
	object, known := s.objects[key]
	require.True(s.tb, known, "no %s", key)
	delete(s.objects, key)
	s.happened(resource, "DELETED", object.DeepCopyObject())
}

// SetLog gives a pod its log; nil takes it away.
func (s *Server) SetLog(namespace, name string, log *Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if log == nil {
		delete(s.logs, namespace+"/"+name)
		return
	}
	s.logs[namespace+"/"+name] = log
}

func (s *Server) happened(resource, kind string, object runtime.Object) {
	s.version++
	accessor, err := meta.Accessor(object)
	require.NoError(s.tb, err)
	accessor.SetResourceVersion(strconv.Itoa(s.version))
	s.events = append(s.events, change{s.version, resource, kind, object})
	s.wake()
}

func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fault := s.fault
	if s.wrap != nil {
		w = s.wrap(w, r)
	}
	s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+Token {
		fail(w, apierrors.NewUnauthorized("who are you?"))
		return
	}
	// /api/v1/... or /apis/GROUP/v1/..., then namespaces/NAMESPACE/ if it is one's, RESOURCE, NAME, SUBRESOURCE.
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 3 {
		fail(w, apierrors.NewNotFound(noResource, r.URL.Path))
		return
	}
	if parts = parts[2:]; strings.HasPrefix(r.URL.Path, "/apis/") {
		parts = parts[1:]
	}
	namespace := ""
	if len(parts) > 2 && parts[0] == "namespaces" {
		namespace, parts = parts[1], parts[2:]
	}
	resource, verb := parts[0], "list"
	if len(parts) > 2 {
		resource, verb = parts[0]+"/"+parts[2], "get"
	} else if r.URL.Query().Get("sendInitialEvents") != "" {
		verb = "watchlist"
	} else if r.URL.Query().Get("watch") != "" {
		verb = "watch"
	}
	s.mu.Lock()
	s.seen[verb+" "+resource]++
	s.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	running := s.running
	stop := context.AfterFunc(running, cancel)
	defer stop()
	defer func() {
		if running.Err() != nil {
			panic(http.ErrAbortHandler)
		}
	}()
	var err error
	switch {
	case resource == "pods/log":
		s.mu.Lock()
		log := s.logs[namespace+"/"+parts[1]]
		s.mu.Unlock()
		if err = apierrors.NewNotFound(noResource, parts[1]); log != nil {
			err = log.serve(ctx, w, r)
		}
	case resource == "pods/portforward":
		err = s.forward(ctx, w, r, namespace+"/"+parts[1])
	case verb == "list":
		err = s.list(w, r, resource, namespace)
	case verb == "watchlist":
		// An older server: the client lists instead.
		err = apierrors.NewInvalid(noKind, "sendInitialEvents", nil)
	case verb == "watch":
		err = s.watch(ctx, w, r, resource, namespace)
	default:
		err = apierrors.NewNotFound(noResource, r.URL.Path)
	}
	if err != nil {
		fail(w, err)
	}
}

// wanted tells whether an object is one of those that a request is about.
func wanted(r *http.Request, namespace string, object runtime.Object) bool {
	accessor, err := meta.Accessor(object)
	if err != nil || namespace != "" && accessor.GetNamespace() != namespace {
		return false
	}
	byLabel, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil || !byLabel.Matches(labels.Set(accessor.GetLabels())) {
		return false
	}
	byField, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	return err == nil && byField.Matches(fieldsOf(object))
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, resource, namespace string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []json.RawMessage{}
	keys := make([]string, 0, len(s.objects))
	for key := range s.objects {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if strings.HasPrefix(key, resource+"/") && wanted(r, namespace, s.objects[key]) {
			encoded, err := json.Marshal(s.objects[key])
			if err != nil {
				return err
			}
			items = append(items, encoded)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string]any{
		"kind": kinds[resource] + "List", "apiVersion": versions[resource],
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)}, "items": items,
	})
}

func (s *Server) watch(ctx context.Context, w http.ResponseWriter, r *http.Request, resource, namespace string) error {
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	encoder := json.NewEncoder(w)
	for {
		s.mu.Lock()
		gone, changed := from < s.oldest, s.changed
		var news []change
		for _, c := range s.events {
			if c.version > from && c.resource == resource && wanted(r, namespace, c.object) {
				news = append(news, c)
			}
			from = max(from, c.version)
		}
		s.mu.Unlock()
		if gone {
			return encoder.Encode(map[string]any{"type": "ERROR", "object": statusOf(apierrors.NewResourceExpired("too old resource version"))})
		}
		for _, c := range news {
			if err := encoder.Encode(map[string]any{"type": c.kind, "object": typed(resource, c.object)}); err != nil {
				return nil //nolint:nilerr // who asked is gone
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Cutter ends an answer after a number of bytes: cleanly, as the API server does when a kubelet goes away, or by breaking the
// connection off.
type Cutter struct {
	http.ResponseWriter
	Left  int
	Clean bool
}

var errCut = errors.New("cut off")

// Write implements http.ResponseWriter.
func (c *Cutter) Write(data []byte) (int, error) {
	if len(data) <= c.Left {
		c.Left -= len(data)
		return c.ResponseWriter.Write(data)
	}
	n, _ := c.ResponseWriter.Write(data[:c.Left])
	c.Left = 0
	c.Flush()
	if !c.Clean {
		panic(http.ErrAbortHandler)
	}
	return n, errCut
}

// Flush implements http.Flusher.
func (c *Cutter) Flush() { c.ResponseWriter.(http.Flusher).Flush() }

func statusOf(err error) metav1.Status {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return status
}

func fail(w http.ResponseWriter, err error) {
	body := statusOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(body.Code))
	_ = json.NewEncoder(w).Encode(body)
}

// typed states an object's kind, which typed objects leave out.
func typed(resource string, object runtime.Object) runtime.Object {
	object = object.DeepCopyObject()
	object.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(versions[resource], kinds[resource]))
	return object
}

// Eventually waits until a condition holds.
func Eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(tb, fmt.Sprintf("never: %s", what))
		}
	}
}

const patience = 30 * time.Second
