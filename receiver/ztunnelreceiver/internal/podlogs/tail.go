package podlogs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

// Config says how to follow logs. Zero durations mean the defaults.
type Config struct {
	// FromEnd leaves out what pods wrote that are there at the very first start, before it.
	FromEnd bool
	// Style is that of the logs.
	Style accesslog.Style
	// Of is whose log a pod's is, as the sink is told; by default its node's.
	Of func(pod kube.Pod) string
	// MaxEntry is the largest entry in bytes; of a longer one the beginning is passed on.
	MaxEntry int
	// MinBackoff and MaxBackoff are the waits between two streams of a pod.
	MinBackoff, MaxBackoff time.Duration
	// MaxAge is after how long a stream is replaced, give or take a fifth: one that hangs looks like a container that writes nothing.
	MaxAge time.Duration
}

// Defaults of Config.
const (
	DefaultMinBackoff = 250 * time.Millisecond
	DefaultMaxBackoff = 15 * time.Second
	DefaultMaxAge     = 30 * time.Minute
)

const (
	// indexKey is where the uids of the pods are stored of which there is a position, each under positionKey and its uid.
	indexKey    = "podlogs/pods"
	positionKey = "podlogs/position/"
)

// Source opens logs.
type Source interface {
	// Open opens the log of a pod's container. Errors are the API server's.
	Open(ctx context.Context, pod kube.Pod, options kube.LogOptions) (io.ReadCloser, error)
}

// Store is what is kept over a restart: the part of storage.Client that is needed.
type Store interface {
	Get(ctx context.Context, key string) ([]byte, error)
}

// Sink takes entries and hears of what happens. Calls come while the tail's lock is held.
type Sink interface {
	// Entry takes an entry of whom Config.Of names.
	Entry(of string, entry []byte)
	// Damaged counts lines that are not as they should be.
	Damaged(what Damage, n int64)
	// Skipped counts lines that came again.
	Skipped(n int64)
	// Reconnect tells that a stream ended or could not be had, in a word, and why in the latter case.
	Reconnect(pod kube.Pod, reason string, err error)
	// Gap tells that lines may be missing: a stream repeated nothing of what came before it.
	Gap(pod kube.Pod)
}

// Damage says what is wrong with a line.
type Damage string

// DamageNoTime is a line without the time that the Kubernetes API puts before each.
const DamageNoTime Damage = "no_time"

// Tail follows the logs of pods. Its lock, which it shares with its owner, orders the taking of lines and the owner's work.
type Tail struct {
	cfg    Config
	source Source
	sink   Sink
	lock   sync.Locker
	ready  func(ctx context.Context)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// All below is guarded by lock.

	// followers are bounded by the pods that the source lists.
	followers map[string]*follower
	// restored are the states of pods that were not seen yet since the start, bounded by the followers that there were.
	restored map[string][]byte
	// begun is set once it was said which pods there are; known when there was a start before this one.
	begun, known bool
	// indexed is what the storage has under indexKey, removed are uids whose position is to be deleted from it.
	indexed []string
	removed []string
	stopped bool
}

// New returns a tail that takes lock whenever it calls the sink, and calls ready, without the lock, after it did: ready may
// wait in order to hold up reading.
func New(cfg Config, source Source, sink Sink, lock sync.Locker, ready func(ctx context.Context)) *Tail {
	setDefault(&cfg.MinBackoff, DefaultMinBackoff)
	setDefault(&cfg.MaxBackoff, max(DefaultMaxBackoff, cfg.MinBackoff))
	setDefault(&cfg.MaxAge, DefaultMaxAge)
	if cfg.Of == nil {
		cfg.Of = func(pod kube.Pod) string { return pod.Node }
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Tail{
		cfg: cfg, source: source, sink: sink, lock: lock, ready: ready, ctx: ctx, cancel: cancel,
		followers: map[string]*follower{}, restored: map[string][]byte{},
	}
}

func setDefault(value *time.Duration, fallback time.Duration) {
	if *value == 0 {
		*value = fallback
	}
}

// Restore reads what Changes gave before a restart. It comes before Follow.
func (t *Tail) Restore(ctx context.Context, store Store) error {
	encoded, err := store.Get(ctx, indexKey)
	if err != nil {
		return fmt.Errorf("reading positions in pods' logs: %w", err)
	}
	if encoded == nil {
		return nil
	}
	var uids []string
	if err := json.Unmarshal(encoded, &uids); err != nil {
		return fmt.Errorf("reading positions in pods' logs: %w", err)
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	for _, uid := range uids {
		state, err := store.Get(ctx, positionKey+uid)
		if err != nil {
			return fmt.Errorf("reading the position in a pod's log: %w", err)
		}
		if state != nil {
			t.restored[uid] = state
		}
	}
	t.known, t.indexed = true, uids
	return nil
}

// Follow says which pods there are. It returns the number of pods whose stored position is damaged; they are followed from now on.
func (t *Tail) Follow(pods []kube.Pod, now time.Time) (damaged int) {
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.stopped {
		return 0
	}
	there := make(map[string]struct{}, len(pods))
	for _, pod := range pods {
		there[pod.UID] = struct{}{}
		if f, known := t.followers[pod.UID]; known {
			f.update(pod)
			// A pod that is back goes on where it was.
			if f.expiry != nil {
				f.expiry.Stop()
				f.expiry = nil
			}
			continue
		}
		f := &follower{tail: t, pod: pod, wake: make(chan struct{}, 1), splitter: accesslog.NewEntrySplitter(t.cfg.Style, t.cfg.MaxEntry, 0), dirty: true}
		if state, ok := t.restored[pod.UID]; ok {
			position, held, err := readState(state)
			if err != nil {
				damaged++
				position = startAt(now.UnixNano())
			}
			f.position = position
			f.splitter.SetState(held)
		} else if t.cfg.FromEnd && !t.known && !t.begun {
			f.position = startAt(now.UnixNano())
		}
		delete(t.restored, pod.UID)
		t.followers[pod.UID] = f
		t.wg.Go(func() {
			for t.begin(f) {
				f.run(f.ctx)
			}
		})
	}
	for uid := range t.restored {
		t.removed = append(t.removed, uid)
	}
	clear(t.restored)
	for uid, f := range t.followers {
		if _, ok := there[uid]; !ok && f.expiry == nil {
			f.expiry = time.AfterFunc(goneGrace, f.end)
		}
	}
	t.begun = true
	return damaged
}

// update takes over what is new about a pod; the lock is held.
func (f *follower) update(pod kube.Pod) {
	again := pod.Restarts != f.pod.Restarts || pod.Waiting != f.pod.Waiting
	f.pod = pod
	if again {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// begin prepares a follower to run. It is false if there is nothing more to run for: the tail stopped, or the pod is gone.
func (t *Tail) begin(f *follower) bool {
	t.lock.Lock()
	defer t.lock.Unlock()
	if f.cancel != nil {
		f.cancel()
	}
	if t.stopped {
		return false
	}
	if f.expiry != nil && f.ctx != nil {
		f.expiry.Stop()
		f.flush()
		delete(t.followers, f.pod.UID)
		t.removed = append(t.removed, f.pod.UID)
		return false
	}
	f.ctx, f.cancel = context.WithCancel(t.ctx)
	return true
}

func (t *Tail) maxAge() time.Duration {
	fifth := t.cfg.MaxAge / 5
	return t.cfg.MaxAge - fifth + rand.N(2*fifth+1)
}

// Stop ends reading. Afterwards Changes returns the last positions. The lock must not be held.
func (t *Tail) Stop() error {
	t.lock.Lock()
	t.stopped = true
	for _, f := range t.followers {
		if f.expiry != nil {
			f.expiry.Stop()
		}
	}
	t.lock.Unlock()
	t.cancel()
	t.wg.Wait()
	return nil
}

// Quiesce returns with the lock held and true: between two lines, positions and entries always say the same. Entries that
// waited for a whole boundary for lines that continue them are passed on.
func (t *Tail) Quiesce(context.Context) bool {
	t.lock.Lock()
	for _, f := range t.followers {
		if !f.fed {
			f.flush()
		}
		f.fed = false
	}
	return true
}

// Settled tells that positions and entries say the same, as they always do between two lines.
func (t *Tail) Settled() bool { return true }

// Changes returns what changed since it was last asked for. It is to be called with the lock held. written is to be called with the
// lock held before Changes is called again.
func (t *Tail) Changes() (ops []*storage.Operation, written func(ok bool), err error) {
	if !t.begun {
		// What is stored may be of pods that were not heard of yet.
		return nil, func(bool) {}, nil
	}
	uids := make([]string, 0, len(t.followers))
	var dirty []*follower
	for uid, f := range t.followers {
		uids = append(uids, uid)
		if f.dirty {
			f.dirty = false
			dirty = append(dirty, f)
			ops = append(ops, storage.SetOperation(positionKey+uid, f.position.appendState(f.splitter.AppendState(nil))))
		}
	}
	slices.Sort(uids)
	removed := len(t.removed)
	for _, uid := range t.removed {
		ops = append(ops, storage.DeleteOperation(positionKey+uid))
	}
	if t.indexed == nil || !slices.Equal(uids, t.indexed) {
		encoded, err := json.Marshal(uids)
		if err != nil {
			return nil, nil, fmt.Errorf("encoding positions in pods' logs: %w", err)
		}
		ops = append(ops, storage.SetOperation(indexKey, encoded))
	}
	return ops, func(ok bool) {
		if !ok {
			for _, f := range dirty {
				f.dirty = true
			}
			return
		}
		t.removed = t.removed[removed:]
		t.indexed = uids
	}, nil
}

// Readable says of each node with a pod whether its log can be read now.
func (t *Tail) Readable() map[string]bool {
	t.lock.Lock()
	defer t.lock.Unlock()
	readable := make(map[string]bool, len(t.followers))
	for _, f := range t.followers {
		if !f.pod.Aside && f.expiry == nil {
			readable[t.cfg.Of(f.pod)] = f.working
		}
	}
	return readable
}
