package configdump

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/xds"
)

const recordings = "../../../../recordings"

type recorded struct {
	Time time.Time       `json:"time"`
	Node string          `json:"node"`
	Dump json.RawMessage `json:"config_dump"`
}

func readLines(tb testing.TB, path string, visit func(line []byte)) {
	tb.Helper()
	file, err := os.Open(path)
	require.NoError(tb, err)
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	require.NoError(tb, err)
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		visit(lines.Bytes())
	}
	require.NoError(tb, lines.Err())
}

func readDumps(tb testing.TB, path string) []recorded {
	tb.Helper()
	var dumps []recorded
	readLines(tb, path, func(line []byte) {
		var r recorded
		require.NoError(tb, json.Unmarshal(line, &r))
		dumps = append(dumps, r)
	})
	require.NotEmpty(tb, dumps)
	return dumps
}

// pushed is a state of the mesh as istiod told it, from that time on.
type pushed struct {
	at       time.Time
	entities map[string]mesh.Entity // by type and key
}

func readPushes(tb testing.TB, path string) []pushed {
	tb.Helper()
	m := xds.NewMesh(0)
	var states []pushed
	readLines(tb, path, func(line []byte) {
		at, response, err := xds.ReadJSON(line)
		require.NoError(tb, err)
		_, err = m.Apply(response, at)
		require.NoError(tb, err)
		state := pushed{at: at, entities: map[string]mesh.Entity{}}
		for _, event := range m.Snapshot(at) {
			state.entities[name(event.Entity)] = event.Entity
		}
		states = append(states, state)
	})
	return states
}

func name(entity mesh.Entity) string { return string(entity.Type()) + " " + entity.Key() }

// dumpable is the entity as a ztunnel can dump it: without its ports' application protocols.
func dumpable(entity mesh.Entity) mesh.Entity {
	strip := func(ports []mesh.Port) []mesh.Port {
		stripped := append([]mesh.Port(nil), ports...)
		for i := range stripped {
			stripped[i].AppProtocol = ""
		}
		return stripped
	}
	switch e := entity.(type) {
	case *mesh.Service:
		service := *e
		service.Ports = strip(e.Ports)
		return &service
	case *mesh.Workload:
		workload := *e
		workload.Services = nil
		for key, ports := range e.Services {
			if workload.Services == nil {
				workload.Services = map[string][]mesh.Port{}
			}
			workload.Services[key] = strip(ports)
		}
		return &workload
	}
	return entity
}

// A ztunnel's dump and istiod's pushes tell the same of every entity, policies and their rules included.
func TestDumpsEqualWhatIstiodSays(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(recordings, "*", "config_dump-*.jsonl.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	policies := 0
	for _, path := range paths {
		states := readPushes(t, filepath.Join(filepath.Dir(path), "xds.jsonl.gz"))
		for _, r := range readDumps(t, path) {
			dump, err := Parse(r.Dump, r.Node, r.Time, Options{State: true})
			require.NoError(t, err, path)
			assert.Zero(t, dump.Dropped)
			var want map[string]mesh.Entity
			for _, state := range states {
				if state.at.Before(r.Time) {
					want = state.entities
				}
			}
			require.NotEmpty(t, want)
			events := dump.Events()
			require.Len(t, events, len(want)+1)
			for _, event := range events[1:] {
				assert.Equal(t, dumpable(want[name(event.Entity)]), event.Entity)
				assert.Equal(t, r.Time, event.Time.AsTime())
				if event.Entity.Type() == mesh.TypePolicy {
					policies++
				}
			}
		}
	}
	assert.Positive(t, policies, "the recordings hold a policy")
}

func TestRecordedZtunnel(t *testing.T) {
	r := readDumps(t, filepath.Join(recordings, "policy-deny", "config_dump-node-a.jsonl.gz"))[1]
	dump, err := Parse(r.Dump, "", r.Time, Options{})
	require.NoError(t, err)
	assert.Nil(t, dump.Workloads)
	require.Len(t, dump.Events(), 1)
	z := dump.Ztunnel
	assert.Equal(t, "node-a", z.Node)
	assert.Equal(t, "ztunnel-a7x2k", z.Name)
	assert.Equal(t, "istio-system", z.Namespace)
	assert.Equal(t, "Kubernetes", z.ClusterID)
	assert.Equal(t, "https://10.244.0.1:15010", z.XDSAddress)
	assert.Equal(t, "62d826530e5ce85764e309170205b293efcbc80b-dirty", z.Version, "an unknown release is told by its commit")
	assert.Equal(t, map[string]string{
		"shop/cart-84b1-a1": "Up", "shop/frontend-6f7c-a1": "Up", "load/loadgen-5c9d-x1": "Up", "billing/payment-66cd-a1": "Up",
	}, z.Workloads)
	require.Len(t, z.Certificates, 4)
	c := z.Certificates[0]
	assert.Equal(t, "spiffe://cluster.local/ns/billing/sa/payment", c.Identity)
	assert.Equal(t, "Available", c.State)
	assert.Equal(t, time.Date(2026, 11, 23, 21, 24, 37, 0, time.UTC), c.NotBefore)
	assert.Equal(t, time.Date(2026, 11, 24, 21, 24, 37, 0, time.UTC), c.NotAfter)
	assert.Equal(t, 2300, c.RootNotAfter.Year())
	assert.NotEmpty(t, c.SerialNumber)

	connections := map[string]Connections{}
	for _, c := range dump.Connections {
		connections[c.Namespace+"/"+c.Pod] = c
	}
	require.Len(t, connections, 4)
	assert.Equal(t, strings.Count(string(r.Dump), `"originalDst"`), total(dump.Connections))
	assert.Positive(t, connections["shop/frontend-6f7c-a1"].Outbound, "frontend keeps its connections open")
}

func total(list []Connections) int {
	n := 0
	for _, c := range list {
		n += c.Inbound + c.Outbound
	}
	return n
}

func BenchmarkParse(b *testing.B) {
	r := readDumps(b, filepath.Join(recordings, "policy-deny", "config_dump-node-a.jsonl.gz"))[3]
	for name, options := range map[string]Options{"ztunnel": {}, "state": {State: true}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(r.Dump)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(r.Dump, r.Node, r.Time, options); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
