package topologyquery

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/datatime"
)

const (
	// clocksEvery is how often the log may tell of nodes' clocks.
	clocksEvery = 5 * time.Second
	// maxClocks is how many nodes a line of the log names.
	maxClocks = 10
)

// watchClocks logs which nodes' clocks are wrong, once when that begins and once when it ends, until the context does.
func watchClocks(ctx context.Context, logger *zap.Logger, problems func() []datatime.Problem) {
	ticker := time.NewTicker(clocksEvery)
	defer ticker.Stop()
	log := clockLog{logger: logger}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			log.tell(problems())
		}
	}
}

// clockLog remembers which problems were logged.
type clockLog struct {
	logger *zap.Logger
	// kinds are the problems' by node; bounded by datatime.MaxNodes.
	kinds map[string]string
}

// tell logs what began and what ended since it was called last, in at most a line each.
func (l *clockLog) tell(problems []datatime.Problem) {
	kinds := make(map[string]string, len(problems))
	var begun, named, over []string
	for _, problem := range problems {
		kinds[problem.Node] = problem.Kind
		if l.kinds[problem.Node] != problem.Kind {
			begun, named = append(begun, problem.Sentence()), append(named, problem.Node)
		}
	}
	for node := range l.kinds {
		if _, still := kinds[node]; !still {
			over = append(over, node)
		}
	}
	l.kinds = kinds
	if n := len(begun); n > 0 {
		l.logger.Warn("Clocks of nodes are wrong", zap.Int("count", n), zap.Strings("nodes", first(named)), zap.Strings("problems", first(begun)))
	}
	if n := len(over); n > 0 {
		slices.Sort(over)
		l.logger.Info("Clocks of nodes are right again, or the nodes are gone", zap.Int("count", n), zap.Strings("nodes", first(over)))
	}
}

func first(names []string) []string { return names[:min(len(names), maxClocks)] }
