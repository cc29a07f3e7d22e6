package ztunnelreceiver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// droppedOf is what batches, in their order, say was left out.
func droppedOf(batches ...pmetric.Metrics) []drops.Total {
	table := drops.NewTable()
	for _, md := range batches {
		for _, resource := range md.ResourceMetrics().All() {
			for _, scope := range resource.ScopeMetrics().All() {
				for _, metric := range scope.Metrics().All() {
					if metric.Name() == semconv.MetricDropped {
						table.Take(str(resource.Resource().Attributes(), semconv.AttrServiceInstanceID), metric, 1)
					}
				}
			}
		}
	}
	return table.Totals()
}

func TestWhatIsLeftOutIsAProblemForAMinute(t *testing.T) {
	_, in := newTestIngest(t, createDefaultConfig().(*Config), &sink{})
	in.Up(semconv.SourceConfigDump, "node-a", true, epoch)
	problemAt := func(second int) (problem string) {
		for beat := range datatime.Read(in.take(epoch.Add(time.Duration(second)*time.Second), true).metrics) {
			problem = beat.Sources[0].Problem
		}
		return problem
	}
	in.Left(semconv.SourceConfigDump, "node-a", 0)
	assert.Empty(t, problemAt(1))
	in.Left(semconv.SourceConfigDump, "node-a", 3)
	assert.Equal(t, semconv.ProblemDropped, problemAt(2))
	assert.Equal(t, semconv.ProblemDropped, problemAt(61))
	assert.Empty(t, problemAt(62))
}

func TestWhatIsLeftOutTravelsWithTheData(t *testing.T) {
	_, in := newTestIngest(t, createDefaultConfig().(*Config), &sink{})
	boundary := func(second int) pmetric.Metrics {
		return in.take(epoch.Add(time.Duration(second)*time.Second), true).metrics
	}
	entries := func(texts ...string) {
		for _, text := range texts {
			in.Entry("node-a", []byte(text), epoch)
		}
	}
	entries(accessLine(0))
	batches := []pmetric.Metrics{boundary(1)}
	assert.Empty(t, droppedOf(batches...), "all is taken")

	entries("hello", "world", accessLine(1), accessLine(2)[:60])
	batches = append(batches, boundary(2))
	entries("again")
	in.refused(pipeline.SignalTraces)(context.Background(), 7, true, consumererror.NewPermanent(errors.New("no")))
	in.refused(pipeline.SignalLogs)(context.Background(), 5, false, errors.New("not now"))
	batches = append(batches, boundary(3), boundary(4))
	assert.Equal(t, []drops.Total{
		{Component: "ztunnel", Reason: "foreign", Count: 3},
		{Component: "ztunnel", Reason: "incomplete", Count: 1},
		{Component: "ztunnel", Reason: "refused_traces", Count: 7},
	}, droppedOf(batches...))
}

func TestReceiversAreToldApart(t *testing.T) {
	set := receivertest.NewNopSettings(metadata.Type)
	set.ID = component.MustNewIDWithName("ztunnel", "east")
	live, replay := createDefaultConfig().(*Config), createDefaultConfig().(*Config)
	replay.Replay = configoptional.Some(ReplayConfig{})
	assert.Equal(t, "ztunnel/east", instanceOf(live, set))
	set.Resource.Attributes().PutStr(semconv.AttrServiceInstanceID, "collector")
	assert.Equal(t, "collector/ztunnel/east", instanceOf(live, set))
	assert.Equal(t, "ztunnel/east", instanceOf(replay, set), "the same input gives the same output")

	tel, err := telemetry.New(set.TelemetrySettings)
	require.NoError(t, err)
	in, err := newIngest(live, set, consumers{metrics: &sink{}}, tel)
	require.NoError(t, err)
	tel.Dropped(telemetry.ReasonPods, 1)
	taken := in.take(epoch, true).metrics
	require.Equal(t, 1, taken.ResourceMetrics().Len())
	assert.Equal(t, map[string]any{
		semconv.AttrServiceName: semconv.ServiceNameZtunnel, semconv.AttrServiceInstanceID: "collector/ztunnel/east",
	}, taken.ResourceMetrics().At(0).Resource().Attributes().AsRaw())
}
