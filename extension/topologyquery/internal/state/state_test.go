package state

import (
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/outages"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

func newStores() *stores.Stores {
	return &stores.Stores{Sources: sources.New(), Inventory: inventory.New(100), Outages: outages.New(10, nil), Changes: changes.New(10)}
}

// open is a keeper on new stores, as a process finds it that starts.
func open(t *testing.T, directory string) (*Keeper, Clock) {
	t.Helper()
	k, clock, err := Open(t.Context(), directory, newStores())
	require.NoError(t, err)
	return k, clock
}

// apply does what the ingester does.
func (k *Keeper) apply(event mesh.Event) {
	k.stores.Inventory.Apply(event)
	k.Entity(event)
}

func pod(name string) *mesh.Workload {
	return &mesh.Workload{
		UID: name, Name: name, Namespace: "shop", Naming: mesh.Naming{WorkloadName: name},
		Services: map[string][]mesh.Port{"x/y": {{ServicePort: 1}}},
	}
}

// content is all that is in the stores.
func content(all *stores.Stores) (out []string) {
	all.Inventory.Events(func(e mesh.Event) { out = append(out, fmt.Sprintf("%s %v %+v", e.Entity.Key(), e.Deleted, e.Entity)) })
	all.Outages.Each(func(o *outage.Outage, updated int64) { out = append(out, fmt.Sprint(o.ID, " ", o.State, " ", updated)) })
	for _, c := range all.Changes.Snapshot() {
		out = append(out, fmt.Sprintf("%+v", c))
	}
	return out
}

func TestWhatHappenedIsThereAfterARestart(t *testing.T) {
	directory := t.TempDir()
	k, clock := open(t, directory)
	assert.Zero(t, clock)
	for round := range 3 {
		for i := range 5 {
			k.apply(mesh.Event{Entity: pod(fmt.Sprint("pod-", round, i)), Time: 1})
		}
		k.apply(mesh.Event{Entity: pod(fmt.Sprint("pod-", round, 0)), Deleted: true, Time: 2})
		k.apply(mesh.Event{Entity: &mesh.Service{Name: "s", Namespace: "shop", Hostname: "s.shop"}})
		k.apply(mesh.Event{Entity: &mesh.Policy{Name: "p", Namespace: "shop"}})
		k.apply(mesh.Event{Entity: &mesh.Policy{Name: "p", Namespace: "shop"}, Deleted: true})
		k.apply(mesh.Event{Entity: &mesh.Ztunnel{Node: "n", Certificates: []mesh.Certificate{{State: "Available"}}}})
		for _, state := range []string{"open", "resolved"} {
			o := &outage.Outage{ID: fmt.Sprint("o", round), State: state}
			k.stores.Outages.Put(o, "", int64(round))
			k.Outage(o, int64(round))
		}
		c := changes.Change{Kind: "Pod", Name: fmt.Sprint(round), Time: time.Unix(int64(round), 0).UTC()}
		k.stores.Changes.Add(c)
		k.Change(c)
		k.stores.Sources.Advance(int64(1000 + round))
		require.NoError(t, k.Save(t.Context()))

		var again Clock
		want := content(k.stores)
		k, again = open(t, directory)
		assert.Equal(t, want, content(k.stores), "round %d", round)
		assert.EqualValues(t, 1000+round, again.Now)
		k.stores.Sources.Restore(again.First, again.Now)
	}
	files, err := os.ReadDir(filepath.Join(directory, folder))
	require.NoError(t, err)
	require.NoError(t, k.Save(t.Context()), "nothing changed")
	again, err := os.ReadDir(filepath.Join(directory, folder))
	require.NoError(t, err)
	assert.Len(t, again, len(files))
}

// TestFormerFile has a state from before there was a journal.
func TestFormerFile(t *testing.T) {
	directory := t.TempDir()
	file, err := os.Create(filepath.Join(directory, formerFile))
	require.NoError(t, err)
	compressed := gzip.NewWriter(file)
	_, err = compressed.Write([]byte(`{"format":1,"first":7,"clock":9,
		"mesh":{"workloads":[{"uid":"a","name":"a","namespace":"shop","workload_name":"a","healthy":true}],"gone":[{"uid":"b","name":"b","namespace":"shop"}, null],
			"services":[{"name":"s","namespace":"shop","hostname":"s.shop"}],"gone_policies":[{"name":"p","namespace":"shop"}],"ztunnels":[{"node":"n"}]},
		"outages":[{"outage":{"id":"o","state":"open"},"updated":5},{}],
		"changes":[{"kind":"Pod","name":"c","time":"2026-01-02T03:04:05Z"},{}]}`))
	require.NoError(t, err)
	require.NoError(t, compressed.Close())
	require.NoError(t, file.Close())

	k, clock := open(t, directory)
	assert.Equal(t, Clock{7, 9}, clock)
	want := content(k.stores)
	require.Len(t, want, 9)
	require.NoError(t, k.Save(t.Context()))
	assert.NoFileExists(t, filepath.Join(directory, formerFile), "it is read once")
	k, _ = open(t, directory)
	assert.Equal(t, want, content(k.stores))
}

func TestBrokenFiles(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "not compressed": "{}", "cut": "\x1f\x8b\x08\x00"} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(directory, formerFile), []byte(content), 0o600))
			k, _, err := Open(t.Context(), directory, newStores())
			require.ErrorIs(t, err, ErrFormer)
			require.NoError(t, k.Save(t.Context()), "it goes on without")
		})
	}
	t.Run("journal", func(t *testing.T) {
		directory := t.TempDir()
		k, _ := open(t, directory)
		k.apply(mesh.Event{Entity: pod("a")})
		require.NoError(t, k.Save(t.Context()))
		k.apply(mesh.Event{Entity: pod("b")})
		require.NoError(t, k.Save(t.Context()))
		entry := filepath.Join(directory, folder, "journal-1")
		whole, err := os.ReadFile(entry)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(entry, whole[:len(whole)/2], 0o600))
		k, _, err = Open(t.Context(), directory, newStores())
		require.ErrorIs(t, err, journal.ErrDamaged)
		assert.Len(t, content(k.stores), 1, "what could be read")
		require.NoError(t, k.Save(t.Context()))
		k, _ = open(t, directory)
		assert.Len(t, content(k.stores), 1, "and the journal is whole again")
	})
	t.Run("no directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		_, _, err := Open(t.Context(), file, newStores())
		require.Error(t, err)
	})
}
