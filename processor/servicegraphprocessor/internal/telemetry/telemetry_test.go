package telemetry

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

func TestWhatIsDroppedTravelsWithTheData(t *testing.T) {
	own, err := New(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	defer own.Shutdown()
	scope := pmetric.NewScopeMetrics()
	own.AppendDropped(scope, 1)
	assert.Zero(t, scope.Metrics().Len())
	own.Dropped(DroppedDuplicate, 3)
	own.AppendDropped(scope, 2)
	require.Equal(t, 1, scope.Metrics().Len())
	metric := scope.Metrics().At(0)
	assert.Equal(t, semconv.MetricDropped, metric.Name())
	point := metric.Sum().DataPoints().At(0)
	assert.EqualValues(t, 3, point.IntValue())
	assert.Equal(t, map[string]any{semconv.LabelComponent: "service_graph", semconv.LabelReason: DroppedDuplicate}, point.Attributes().AsRaw())
}
