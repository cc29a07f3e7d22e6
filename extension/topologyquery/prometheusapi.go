package topologyquery

import (
	"log/slog"
	"net/http"

	"go.uber.org/zap/exp/zapslog"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/promapi"
)

// prometheusAPI is Prometheus's HTTP API over the embedded history, nil where another server stores it: that one has its own.
func (t *topologyQuery) prometheusAPI() http.Handler {
	if t.storage.embedded == nil {
		return nil
	}
	stored := t.storage.embedded.PromQL()
	return promapi.New(promapi.Settings{
		Engine:   stored,
		Storage:  stored,
		Now:      t.storage.now,
		Logger:   slog.New(zapslog.NewHandler(t.settings.Logger.Core())),
		Metadata: t.storage.embedded.Catalog,
		Lookback: t.config.History.Lookback,
	})
}
