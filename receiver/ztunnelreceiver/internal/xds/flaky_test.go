package xds

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/nephilia/nephilia/internal/mesh"
)

// flakyProxy stands before a server: it refuses some connections and breaks all of them off when it is told to.
type flakyProxy struct {
	address string
	target  string
	refuse  func() bool

	mu       sync.Mutex
	open     map[net.Conn]struct{}
	refused  int
	accepted int
	wg       sync.WaitGroup
}

func newFlakyProxy(tb testing.TB, target string, refuse func() bool) *flakyProxy {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	p := &flakyProxy{address: listener.Addr().String(), target: target, refuse: refuse, open: map[net.Conn]struct{}{}}
	p.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.accepted++
			p.mu.Unlock()
			if p.refuse() {
				p.mu.Lock()
				p.refused++
				p.mu.Unlock()
				conn.Close()
				continue
			}
			p.wg.Go(func() { p.carry(conn) })
		}
	})
	tb.Cleanup(func() {
		listener.Close()
		p.breakOff()
		p.wg.Wait()
	})
	return p
}

func (p *flakyProxy) carry(conn net.Conn) {
	defer conn.Close()
	server, err := net.DialTimeout("tcp", p.target, time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.open[conn], p.open[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(server, conn); server.Close() })
	both.Go(func() { _, _ = io.Copy(conn, server); conn.Close() })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
	delete(p.open, server)
}

func (p *flakyProxy) breakOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		conn.Close()
	}
}

// A hundred streams, of which connections break, one in ten connects fails, tokens and certificates rotate, and the server restarts; the
// mesh is what the server says at the end, and each change was told once.
func TestClientThroughAHundredBreaks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	chance := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	folder := t.TempDir()
	ca := newAuthority(t)
	write := func(name, content string) {
		// As a kubelet does: a new file in the place of the old one.
		require.NoError(t, os.WriteFile(filepath.Join(folder, "next"), []byte(content), 0o600))
		require.NoError(t, os.Rename(filepath.Join(folder, "next"), filepath.Join(folder, name)))
	}
	write("root-cert.pem", string(ca.pem))
	write("token", "token-0")
	const name = "istiod.istio-system.svc"
	istiod := startIstiod(t, "", ca.serve(name, nil))
	proxy := newFlakyProxy(t, istiod.address, func() bool { return chance(10) == 0 })
	h := runClient(t, Config{Endpoint: proxy.address, TLS: &TLS{
		CAFile: filepath.Join(folder, "root-cert.pem"), TokenFile: filepath.Join(folder, "token"), ServerName: name,
	}})

	state := mesh.NewState(100)
	versions := map[string]string{}
	token := "token-0"
	for stream := range 100 {
		s := istiod.accept()
		assert.Equal(t, []string{"Bearer " + token}, s.header.Get("authorization"))
		forAddresses, _ := s.subscribe()
		assert.Equal(t, versions, orEmpty(forAddresses.GetInitialResourceVersions()))
		// What changed while nobody listened, and one pod that goes each time but the last.
		changed := fmt.Sprint("pod-", chance(5))
		response := addresses(workloadResource(t, changed, fmt.Sprint(stream)))
		for gone := range versions {
			if gone != changed && stream%3 == 0 {
				response.RemovedResources = []string{gone}
				delete(versions, gone)
				break
			}
		}
		versions[changed] = fmt.Sprint(stream)
		s.answer(response)
		s.answer(policies())
		h.until(Synced)
		switch stream % 4 {
		case 0:
			proxy.breakOff()
		case 1:
			token = fmt.Sprint("token-", stream)
			write("token", token)
			s.breakOff(codes.Unavailable, "max connection age")
		case 2:
			s.breakOff(codes.Unavailable, "max connection age")
		case 3:
			istiod.stop()
			ca = newAuthority(t)
			istiod = startIstiod(t, istiod.address, ca.serve(name, nil))
			write("root-cert.pem", string(ca.pem))
		}
	}
	for len(h.events) > 0 {
		state.Apply(<-h.events)
	}
	var held []string
	for _, w := range state.Workloads() {
		held = append(held, w.UID)
	}
	var want []string
	for uid := range versions {
		want = append(want, uid)
	}
	assert.ElementsMatch(t, want, held)
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	assert.Positive(t, proxy.refused)
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
