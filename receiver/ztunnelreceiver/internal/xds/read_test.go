package xds

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/nephilia/nephilia/internal/mesh"
)

func binaryRecord(tb testing.TB, nanos uint64, response *discoveryv3.DeltaDiscoveryResponse) []byte {
	tb.Helper()
	raw, err := proto.Marshal(response)
	require.NoError(tb, err)
	record := binary.BigEndian.AppendUint64(nil, nanos)
	record = binary.BigEndian.AppendUint32(record, uint32(len(raw)))
	return append(record, raw...)
}

func TestReadBinary(t *testing.T) {
	response := addresses(workloadResource(t, "a", "1"))
	record := binaryRecord(t, uint64(at.UnixNano()), response)

	in := bytes.NewReader(append(bytes.Clone(record), record...))
	for range 2 {
		when, got, err := ReadBinary(in, 0)
		require.NoError(t, err)
		assert.Equal(t, at, when)
		assert.True(t, proto.Equal(response, got))
	}
	_, _, err := ReadBinary(in, 0)
	assert.Equal(t, io.EOF, err)

	for cut := 1; cut < len(record); cut++ {
		_, _, err := ReadBinary(bytes.NewReader(record[:cut]), 0)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut after %d bytes", cut)
	}

	_, _, err = ReadBinary(bytes.NewReader(record), len(record)-binaryHeaderBytes-1)
	require.ErrorContains(t, err, "exceed the bound")
	_, _, err = ReadBinary(bytes.NewReader(binaryRecord(t, math.MaxUint64, response)), 0)
	require.ErrorContains(t, err, "time of")
	record[binaryHeaderBytes] = 0xff
	_, _, err = ReadBinary(bytes.NewReader(record), 0)
	require.ErrorContains(t, err, "reading xDS response")
}

func TestReadJSON(t *testing.T) {
	when, response, err := ReadJSON([]byte(`{"time":"2026-11-23T22:00:00+01:00","response":{"typeUrl":"t","nonce":"n","later":1,"removedResources":["a"]},"more":2}`))
	require.NoError(t, err)
	assert.Equal(t, at, when)
	assert.Equal(t, time.UTC, when.Location())
	assert.Equal(t, []string{"a"}, response.GetRemovedResources())

	for _, line := range []string{
		``, `null`, `[]`, `{}`, `{"time":"2026-11-23T22:00:00Z"}`, `{"time":1,"response":{}}`, `{"time":"yesterday","response":{}}`,
		`{"time":"2026-11-23T22:00:00Z","response":7}`,
		`{"time":"2026-11-23T22:00:00Z","response":{"nonce":7}}`,
		`{"time":"2026-11-23T22:00:00Z","response":{"resources":[{"resource":{"@type":"type.googleapis.com/no.such.Type"}}]}}`,
	} {
		_, _, err := ReadJSON([]byte(line))
		require.ErrorContains(t, err, "reading xDS", line)
	}
}

func FuzzXDS(f *testing.F) {
	for _, r := range readBinary(f, "policy-deny")[1:] { // the first one holds all and is long
		raw, err := proto.Marshal(r.response)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Add([]byte(`{"time":"2026-11-23T22:00:00Z","response":{"typeUrl":"t"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _, _ = ReadJSON(raw)
		_, _, _ = ReadBinary(bytes.NewReader(raw), 1<<20)
		var response discoveryv3.DeltaDiscoveryResponse
		if proto.Unmarshal(raw, &response) != nil {
			return
		}
		m := NewMesh(100)
		m.NewStream(response.GetTypeUrl(), false)
		state := mesh.NewState(100)
		for range 2 {
			events, _ := m.Apply(&response, at)
			for _, event := range events {
				state.Apply(event)
			}
			held := len(state.Workloads()) + len(state.Services()) + len(state.Policies())
			if held != m.Len() || held != len(m.Snapshot(at)) {
				t.Fatalf("events tell of %d entities, the mesh holds %d", held, m.Len())
			}
		}
	})
}
