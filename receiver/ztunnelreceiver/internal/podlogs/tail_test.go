package podlogs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kubetest"
)

// rig is a tail, what it passed on, and what is stored of both, as one.
type rig struct {
	*Tail
	tb      testing.TB
	server  *kubetest.Server
	clients *kube.Clients

	mu      sync.Mutex
	entries map[string]int
	count   int
	damaged map[Damage]int64
	skipped int64
	reasons map[string]int
	gaps    int

	stored      mapStore
	storedCount map[string]int
}

type mapStore map[string][]byte

func (m mapStore) Get(_ context.Context, key string) ([]byte, error) { return m[key], nil }

func (r *rig) Entry(_ string, entry []byte) {
	text := string(entry)
	r.entries[text[strings.LastIndexByte(text, '\t')+1:]]++
	r.count++
}
func (r *rig) Damaged(what Damage, n int64) { r.damaged[what] += n }
func (r *rig) Skipped(n int64)              { r.skipped += n }
func (r *rig) Gap(kube.Pod)                 { r.gaps++ }

func (r *rig) Reconnect(_ kube.Pod, reason string, _ error) { r.reasons[reason]++ }

func newRig(tb testing.TB, server *kubetest.Server, change ...func(*Config)) *rig {
	tb.Helper()
	r := &rig{
		tb: tb, server: server, entries: map[string]int{}, damaged: map[Damage]int64{}, reasons: map[string]int{},
		stored: mapStore{}, storedCount: map[string]int{},
	}
	r.start(change...)
	return r
}

func (r *rig) start(change ...func(*Config)) {
	r.tb.Helper()
	cfg := Config{MaxEntry: 4096, MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	r.clients, err = kube.NewClients(r.server.Config())
	require.NoError(r.tb, err)
	r.Tail = New(cfg, kube.Logs{API: r.clients.Streams}, r, &r.mu, func(context.Context) {})
	require.NoError(r.tb, r.Restore(r.tb.Context(), r.stored))
	tail, clients := r.Tail, r.clients
	r.tb.Cleanup(func() {
		assert.NoError(r.tb, tail.Stop())
		clients.Close()
	})
}

// save stores positions and entries together.
func (r *rig) save() {
	r.Quiesce(context.Background())
	defer r.mu.Unlock()
	ops, written, err := r.Changes()
	require.NoError(r.tb, err)
	for _, op := range ops {
		if op.Type == storage.Delete {
			delete(r.stored, op.Key)
		} else {
			r.stored[op.Key] = op.Value
		}
	}
	written(true)
	clear(r.storedCount)
	for text, n := range r.entries {
		r.storedCount[text] = n
	}
}

// kill loses everything since the last save and starts anew.
func (r *rig) kill() {
	r.tb.Helper()
	require.NoError(r.tb, r.Stop())
	r.clients.Close()
	clear(r.entries)
	r.count = 0
	for text, n := range r.storedCount {
		r.entries[text] = n
		r.count += n
	}
	r.start()
}

func (r *rig) follow(pods ...kube.Pod) { require.Zero(r.tb, r.Follow(pods, time.Now())) }

func (r *rig) has(n int) func() bool {
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.count >= n
	}
}

// exactly demands each of n numbered lines once.
func (r *rig) exactly(n int) {
	r.tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range n {
		require.Equal(r.tb, 1, r.entries[fmt.Sprint("line ", i)], "line %d", i)
	}
	require.Len(r.tb, r.entries, n)
}

func line(n int) string {
	return fmt.Sprintf("2026-11-23T21:00:00.%06dZ\tinfo\taccess\tline %d", n, n)
}

var pod = kube.Pod{UID: "uid-a", Namespace: "istio-system", Name: "ztunnel-a", Node: "node-a"}

// writer writes numbered lines to a log.
type writer struct {
	*kubetest.Log
	n  int
	at time.Time
}

func newWriter(server *kubetest.Server) *writer {
	w := &writer{Log: kubetest.NewLog(), at: kubetest.Born}
	server.SetLog(pod.Namespace, pod.Name, w.Log)
	return w
}

func (w *writer) write(n int, step time.Duration) {
	for range n {
		w.at = w.at.Add(step)
		w.Write(w.at, line(w.n))
		w.n++
	}
}

// Thousands of lines over a stream that breaks at random, that a clean end cuts in the middle of a line, that the server refuses, over
// restarts of the container and of this process, which loses what it did not store.
func TestEachLineOnce(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			var mu sync.Mutex
			chance := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return random.IntN(n)
			}
			server := kubetest.Start(t)
			server.Wrap(func(w http.ResponseWriter, _ *http.Request) http.ResponseWriter {
				if chance(10) == 0 {
					return w
				}
				return &kubetest.Cutter{ResponseWriter: w, Left: chance(40_000), Clean: chance(2) == 0}
			})
			server.Fault(func(w http.ResponseWriter, _ *http.Request) bool {
				switch chance(12) {
				case 0:
					http.Error(w, "down", http.StatusBadGateway)
					return true
				case 1:
					panic(http.ErrAbortHandler)
				}
				return false
			})
			log := newWriter(server)
			r := newRig(t, server)
			r.follow(pod)
			// Several lines share a time, within a step and beyond.
			steps := []time.Duration{0, 1, 700 * time.Nanosecond, time.Millisecond, 300 * time.Millisecond}
			for round := range 40 {
				for range 10 {
					log.write(chance(20), steps[chance(len(steps))])
				}
				switch {
				case round%8 == 3:
					// As a kubelet does: who follows learns of a restart by the end of the stream.
					log.Restart()
				case round%5 == 4:
					r.kill()
					r.follow(pod)
				case round%2 == 0:
					r.save()
				}
				if round%8 == 7 {
					// The log of two containers ago is gone.
					kubetest.Eventually(t, "caught up", r.has(log.n))
					r.save()
				}
			}
			kubetest.Eventually(t, "all lines", r.has(log.n))
			r.exactly(log.n)
			assert.Greater(t, log.n, 2000)
			assert.Zero(t, r.gaps)
		})
	}
}

func TestRotationWhileFollowed(t *testing.T) {
	server := kubetest.Start(t)
	log := newWriter(server)
	r := newRig(t, server)
	log.write(50, time.Millisecond)
	r.follow(pod)
	kubetest.Eventually(t, "the first lines", r.has(50))
	for range 5 {
		log.Rotate()
		log.write(50, time.Millisecond)
	}
	kubetest.Eventually(t, "all lines", r.has(log.n))
	r.exactly(log.n)
	assert.Zero(t, r.gaps)
}

func TestRotationWhileNotFollowedIsToldOf(t *testing.T) {
	server := kubetest.Start(t)
	log := newWriter(server)
	r := newRig(t, server)
	log.write(10, time.Millisecond)
	r.follow(pod)
	kubetest.Eventually(t, "the first lines", r.has(10))
	server.Fault(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "down", http.StatusBadGateway)
		return true
	})
	server.Stop()
	log.write(10, time.Millisecond)
	log.Rotate()
	log.write(10, time.Millisecond)
	server.Fault(nil)
	server.Restart()
	kubetest.Eventually(t, "the last lines", r.has(20))
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Len(t, r.entries, 20, "what was rotated away is gone")
	assert.Equal(t, 1, r.gaps)
}

func TestFromTheEnd(t *testing.T) {
	server := kubetest.Start(t)
	log := newWriter(server)
	log.write(30, time.Millisecond)
	fromEnd := func(c *Config) { c.FromEnd = true }
	r := newRig(t, server, fromEnd)
	require.Zero(t, r.Follow([]kube.Pod{pod}, log.at.Add(2*time.Second)))
	log.at = log.at.Add(3 * time.Second)
	log.write(5, time.Millisecond)
	kubetest.Eventually(t, "what came after the start", r.has(5))

	// A pod that comes later is new from its first line on.
	later := kube.Pod{UID: "uid-b", Namespace: pod.Namespace, Name: "ztunnel-b", Node: "node-b"}
	other := kubetest.NewLog()
	for n := range 7 {
		other.Write(kubetest.Born, line(1000+n))
	}
	server.SetLog(later.Namespace, later.Name, other)
	r.follow(pod, later)
	kubetest.Eventually(t, "the new pod's lines", r.has(12))
	r.save()
	r.kill()

	// And one that comes while nothing runs.
	third := kube.Pod{UID: "uid-c", Namespace: pod.Namespace, Name: "ztunnel-c", Node: "node-c"}
	another := kubetest.NewLog()
	another.Write(kubetest.Born, line(2000))
	server.SetLog(third.Namespace, third.Name, another)
	r.follow(pod, later, third)
	kubetest.Eventually(t, "the third pod's line", r.has(13))
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Len(t, r.entries, 13)
}

func TestPodThatGoes(t *testing.T) {
	server := kubetest.Start(t)
	log := newWriter(server)
	r := newRig(t, server)
	log.write(3, time.Millisecond)
	r.follow(pod)
	kubetest.Eventually(t, "the first lines", r.has(3))
	assert.Equal(t, map[string]bool{"node-a": true}, r.Readable())
	r.save()
	assert.Contains(t, r.stored, positionKey+pod.UID)

	// It writes its last lines while it is already gone.
	r.follow()
	log.write(4, time.Millisecond)
	log.Write(log.at, "2026-11-23T21:00:00.000000Z\twarn\tapp\tan entry that")
	log.Write(log.at, "takes two lines")
	log.End()
	kubetest.Eventually(t, "the last lines", r.has(8))
	assert.Empty(t, r.Readable())
	kubetest.Eventually(t, "its end", func() bool {
		r.save()
		return r.stored[positionKey+pod.UID] == nil
	})
	assert.Equal(t, "[]", string(r.stored[indexKey]))
	assert.Equal(t, 1, r.entries["an entry that\ntakes two lines"])
}

func TestPodThatWentWhileNothingRan(t *testing.T) {
	server := kubetest.Start(t)
	log := newWriter(server)
	r := newRig(t, server)
	log.write(3, time.Millisecond)
	r.follow(pod)
	kubetest.Eventually(t, "the lines", r.has(3))
	r.save()
	r.kill()
	r.save()
	assert.Contains(t, r.stored, positionKey+pod.UID, "before it is known which pods there are, nothing is forgotten")
	r.follow()
	r.save()
	assert.NotContains(t, r.stored, positionKey+pod.UID)
}

func TestDamagedPosition(t *testing.T) {
	server := kubetest.Start(t)
	log := newWriter(server)
	r := newRig(t, server)
	log.write(3, time.Millisecond)
	r.follow(pod)
	kubetest.Eventually(t, "the lines", r.has(3))
	r.save()
	r.stored[positionKey+pod.UID][7] ^= 1
	r.kill()
	assert.Equal(t, 1, r.Follow([]kube.Pod{pod}, log.at.Add(2*time.Second)))
	log.at = log.at.Add(3 * time.Second)
	log.write(2, time.Millisecond)
	kubetest.Eventually(t, "what came after", r.has(5))
	r.exactly(5)
}

func TestReadability(t *testing.T) {
	server := kubetest.Start(t)
	r := newRig(t, server)
	r.follow(pod)
	kubetest.Eventually(t, "a refusal", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.reasons["not_found"] > 0
	})
	assert.Equal(t, map[string]bool{"node-a": false}, r.Readable())
	// A container that writes nothing is no failure, though the server does not even begin to answer.
	log := newWriter(server)
	kubetest.Eventually(t, "readable", func() bool { return r.Readable()["node-a"] })
	log.write(1, 0)
	kubetest.Eventually(t, "a line", r.has(1))

	server.Stop()
	kubetest.Eventually(t, "not readable", func() bool { return !r.Readable()["node-a"] })
	r.mu.Lock()
	assert.Positive(t, r.reasons["connection"])
	r.mu.Unlock()
	server.Restart()
	kubetest.Eventually(t, "readable again", func() bool { return r.Readable()["node-a"] })

	aside := pod
	aside.Aside = true
	r.follow(aside)
	assert.Empty(t, r.Readable())
}

// A container that restarts wakes whoever waits for its next try.
func TestRestartWakes(t *testing.T) {
	server := kubetest.Start(t)
	log := newWriter(server)
	r := newRig(t, server, func(c *Config) { c.MinBackoff, c.MaxBackoff = time.Hour, time.Hour })
	log.write(3, time.Millisecond)
	r.follow(pod)
	kubetest.Eventually(t, "the first lines", r.has(3))
	log.write(2, time.Millisecond)
	log.Restart()
	log.write(2, time.Millisecond)
	kubetest.Eventually(t, "the end of the stream", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.reasons["ended"] > 0
	})
	again := pod
	again.Restarts = 1
	r.follow(again)
	kubetest.Eventually(t, "all lines", r.has(7))
	r.exactly(7)
}

func TestStreamsAreRenewed(t *testing.T) {
	server := kubetest.Start(t)
	log := newWriter(server)
	r := newRig(t, server, func(c *Config) { c.MaxAge = 20 * time.Millisecond })
	r.follow(pod)
	for range 20 {
		log.write(5, time.Millisecond)
		seen := server.Seen("get pods/log")
		kubetest.Eventually(t, "another stream", func() bool { return server.Seen("get pods/log") > seen })
	}
	kubetest.Eventually(t, "all lines", r.has(log.n))
	r.exactly(log.n)
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Positive(t, r.reasons["renewed"])
	assert.Zero(t, r.gaps)
}

func TestGarbage(t *testing.T) {
	server := kubetest.Start(t)
	newWriter(server)
	stamp := kubetest.Born.Format("2006-01-02T15:04:05.000000000Z07:00")
	long := line(1) + strings.Repeat("x", 20_000)
	answers := []string{
		"unable to retrieve container logs for containerd://0123\n" +
			stamp + " " + line(0) + "\nno time here\n\n" + stamp + " continues nothing\n" +
			stamp + " " + long + "\n" + stamp + " " + line(2) + "\n" + stamp + " " + line(3)[:20],
		stamp + " " + line(0) + "\n" + stamp + " continues nothing\n" + stamp + " " + long + "\n" + stamp + " " + line(2) + "\n" + stamp + " " + line(3) + "\n",
	}
	server.Fault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("previous") != "" {
			return false
		}
		answer := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		// In pieces, slowly.
		for len(answer) > 0 {
			n := min(len(answer), 777)
			_, _ = w.Write([]byte(answer[:n]))
			w.(http.Flusher).Flush()
			answer = answer[n:]
		}
		return true
	})
	r := newRig(t, server)
	r.follow(pod)
	kubetest.Eventually(t, "the lines", r.has(5))
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, 1, r.entries["line 0"])
	assert.Equal(t, 1, r.entries["line 2"])
	assert.Equal(t, 1, r.entries["line 3"])
	assert.EqualValues(t, 3, r.damaged[DamageNoTime])
	assert.Positive(t, r.skipped)
	for text := range r.entries {
		assert.LessOrEqual(t, len(text), 4097)
	}
}

// A server whose answer about the container before is cut off, cleanly, must not make a gap between the two.
func TestPreviousLogIsReadToItsEnd(t *testing.T) {
	server := kubetest.Start(t)
	log := newWriter(server)
	r := newRig(t, server)
	log.write(5, time.Millisecond)
	r.follow(pod)
	kubetest.Eventually(t, "the first lines", r.has(5))
	server.Stop()
	log.write(100, time.Millisecond)
	log.Restart()
	log.write(10, time.Millisecond)
	cuts := 0
	server.Wrap(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		if r.URL.Query().Get("previous") != "" && cuts < 3 {
			cuts++
			return &kubetest.Cutter{ResponseWriter: w, Left: cuts * 2500, Clean: true}
		}
		return w
	})
	server.Restart()
	kubetest.Eventually(t, "all lines", r.has(log.n))
	r.exactly(log.n)
}

func TestRestoreFails(t *testing.T) {
	lock := &sync.Mutex{}
	tail := New(Config{}, nil, nil, lock, nil)
	require.ErrorContains(t, tail.Restore(t.Context(), mapStore{indexKey: []byte("{")}), "reading positions")
	require.ErrorContains(t, tail.Restore(t.Context(), brokenStore{}), "disk")
	require.NoError(t, tail.Stop())
}

type brokenStore struct{}

func (brokenStore) Get(context.Context, string) ([]byte, error) { return nil, errors.New("no disk") }

// A pod that is out of the list for a moment, as when its label is changed and changed back, is followed on.
func TestAPodThatComesBackIsReadOn(t *testing.T) {
	server := kubetest.Start(t)
	log := newWriter(server)
	r := newRig(t, server)
	r.follow(pod)
	log.write(50, time.Second)
	kubetest.Eventually(t, "read", r.has(50))
	r.follow()
	r.follow(pod)
	r.mu.Lock()
	for _, f := range r.followers {
		assert.Nil(t, f.expiry)
		f.cancel() // as if the grace had ended in the same moment
	}
	r.mu.Unlock()
	log.write(1, time.Second)
	kubetest.Eventually(t, "read on", r.has(51))
	r.follow(pod)
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Len(t, r.followers, 1)
	assert.Equal(t, 51, r.count, "no line is passed on twice")
}
