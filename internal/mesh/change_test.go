package mesh

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/semconv"
)

func TestChangeSurvivesTheWire(t *testing.T) {
	for _, change := range []Change{
		{Time: 1, Observed: 2, Reason: ChangeOOMKilled, Kind: "Pod", Namespace: "shop", Name: "catalog-1", App: "catalog", Node: "node-a", Text: "killed", Warning: true},
		{Time: 3, Observed: 3, Reason: ChangeCordoned, Kind: "Node", Name: "node-a", Node: "node-a", Text: "node node-a is cordoned"},
	} {
		records := plog.NewLogRecordSlice()
		change.AppendTo(records)
		assert.Equal(t, semconv.EventChange, records.At(0).EventName())
		got, err := ParseChange(records.At(0))
		require.NoError(t, err)
		assert.Equal(t, change, got)
	}
}

func TestChangeThatSaysNothing(t *testing.T) {
	for _, missing := range []string{semconv.AttrChangeReason, semconv.AttrObjectKind, semconv.AttrObjectName} {
		records := plog.NewLogRecordSlice()
		Change{Reason: ChangeScaled, Kind: "Deployment", Name: "catalog"}.AppendTo(records)
		records.At(0).Attributes().PutInt(missing, 7)
		_, err := ParseChange(records.At(0))
		require.ErrorContains(t, err, "change without", missing)
	}
}
