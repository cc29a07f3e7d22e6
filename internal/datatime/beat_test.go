package datatime

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

func write(metrics pmetric.Metrics, beat *Beat) {
	resource := metrics.ResourceMetrics().AppendEmpty()
	if beat.Node != "" {
		resource.Resource().Attributes().PutStr(semconv.AttrNodeName, beat.Node)
	}
	Write(resource.ScopeMetrics().AppendEmpty(), beat)
}

func read(metrics pmetric.Metrics) (beats []Beat) {
	for beat := range Read(metrics) {
		beat.Sources = slices.Clone(beat.Sources)
		beats = append(beats, beat)
	}
	return beats
}

func TestBeatsSurviveTheWire(t *testing.T) {
	beats := []Beat{
		{Node: "a", Time: dataAt(1), Start: dataAt(0), Sequence: 1, Sources: []Source{
			{Name: semconv.SourceAccessLog, Up: true, LastSeen: dataAt(0.5), Problem: semconv.ProblemNotUnderstood, Detail: "A sentence."},
			{Name: semconv.SourceConfigDump},
			{Name: semconv.SourceMetrics, Up: true, LastSeen: dataAt(0.25), Problem: semconv.ProblemRefused},
		}},
		{Node: "", Time: dataAt(1), Sources: []Source{{Name: semconv.SourceXDS, Up: true}}},
		{Node: "a", Time: dataAt(2), Start: dataAt(0), Sequence: 2, Sources: []Source{{Name: semconv.SourceAccessLog, Up: true, LastSeen: dataAt(0.5)}}},
	}
	metrics := pmetric.NewMetrics()
	for i := range beats {
		write(metrics, &beats[i])
	}
	write(metrics, &Beat{Node: "of no sources", Time: dataAt(1)})
	assert.Equal(t, beats, read(metrics))
	for range Read(metrics) {
		break
	}
	_, ok := ReadReplay(metrics)
	assert.False(t, ok)
}

func TestReplayMarker(t *testing.T) {
	metrics := pmetric.NewMetrics()
	scope := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	for _, state := range []string{semconv.ReplayRunning, semconv.ReplayDone, semconv.ReplayRunning} {
		WriteReplay(scope, Replay{State: state, Position: dataAt(3), Reason: "of " + state})
	}
	replay, ok := ReadReplay(metrics)
	assert.True(t, ok)
	assert.Equal(t, Replay{semconv.ReplayDone, dataAt(3), "of done"}, replay)
	for value, want := range map[float64]uint64{1e300: 0, -1: 0, math.NaN(): 0, math.Inf(1): 0, 1.5: 1_500_000_000} {
		scope.Metrics().At(0).Gauge().DataPoints().At(0).SetDoubleValue(value)
		replay, ok := ReplayOf(scope.Metrics().At(0))
		assert.True(t, ok)
		assert.EqualValues(t, want, replay.Position, "%v", value)
	}
}

func FuzzRead(f *testing.F) {
	metrics := pmetric.NewMetrics()
	write(metrics, &Beat{Node: "a", Time: dataAt(1), Start: dataAt(0), Sequence: 1, Sources: []Source{{Name: semconv.SourceXDS, Up: true, LastSeen: dataAt(1)}}})
	WriteReplay(metrics.ResourceMetrics().At(0).ScopeMetrics().At(0), Replay{State: semconv.ReplayRunning, Position: dataAt(1)})
	seed, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(metrics)
	require.NoError(f, err)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		metrics, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(data)
		if err != nil {
			return
		}
		ReadReplay(metrics)
		for beat := range Read(metrics) {
			if len(beat.Sources) > maxSources || beat.Sequence > math.MaxInt64 {
				t.Fatal(beat)
			}
			for _, source := range beat.Sources {
				if source.LastSeen > math.MaxInt64 {
					t.Fatal(source)
				}
			}
		}
	})
}
