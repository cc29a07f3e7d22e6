package topologyquery

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nephilia/nephilia/internal/datatime"
)

func TestClocksAreLoggedOnceWhenTheyGoWrongAndOnceWhenTheyAreRight(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	log := clockLog{logger: zap.New(core)}
	ahead := datatime.Problem{Node: "b", Kind: datatime.ClockAhead, Offset: 10 * time.Minute}
	behind := datatime.Problem{Node: "b", Kind: datatime.ClockBehind, Offset: -10 * time.Minute}
	many := make([]datatime.Problem, 2*maxClocks)
	for i := range many {
		many[i] = datatime.Problem{Node: fmt.Sprintf("n%02d", i), Kind: datatime.ClockAhead, Offset: time.Hour}
	}
	for _, step := range []struct {
		name     string
		problems []datatime.Problem
		level    zapcore.Level
		count    int64 // the nodes that are told of; 0 if nothing is
		nodes    []any
	}{
		{"all well", nil, 0, 0, nil},
		{"it begins", []datatime.Problem{ahead}, zapcore.WarnLevel, 1, []any{"b"}},
		{"it goes on", []datatime.Problem{ahead}, 0, 0, nil},
		{"it turns", []datatime.Problem{behind}, zapcore.WarnLevel, 1, []any{"b"}},
		{"it ends", nil, zapcore.InfoLevel, 1, []any{"b"}},
		{"still all well", nil, 0, 0, nil},
		{"more than a line names", many, zapcore.WarnLevel, 2 * maxClocks, []any{"n00", "n01", "n02", "n03", "n04", "n05", "n06", "n07", "n08", "n09"}},
		{"most end", many[:1], zapcore.InfoLevel, 2*maxClocks - 1, []any{"n01", "n02", "n03", "n04", "n05", "n06", "n07", "n08", "n09", "n10"}},
	} {
		log.tell(step.problems)
		entries := logs.TakeAll()
		if step.count == 0 {
			assert.Empty(t, entries, step.name)
			continue
		}
		if assert.Len(t, entries, 1, step.name) {
			assert.Equal(t, step.level, entries[0].Level, step.name)
			assert.Equal(t, step.count, entries[0].ContextMap()["count"], step.name)
			assert.Equal(t, step.nodes, entries[0].ContextMap()["nodes"], step.name)
		}
	}
}
