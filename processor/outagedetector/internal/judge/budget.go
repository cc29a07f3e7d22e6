package judge

import (
	"time"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

const budgetsEvery = int64(time.Minute)

var burnRates = []string{rules.BurnFast, rules.BurnMedium, rules.BurnSlow}

// budgets judges how fast objectives' error budgets are used.
type budgets struct {
	store   *observe.Store
	checked int64
}

func (j *budgets) judge(now int64) {
	if now-j.checked < budgetsEvery {
		return
	}
	j.checked = now
	for _, app := range j.store.Edges.Apps {
		for _, b := range app.Budgets {
			j.budget(app, b, now)
		}
	}
}

func (j *budgets) budget(app *observe.App, b *observe.Budget, now int64) {
	set := j.store.Catalogue.For("", "", app.Name.Namespace, app.Name.Name)
	f := &b.Fault
	if f.On {
		// The short window ends it: once that is well below the rate, the budget is no longer being burnt.
		all, bad := b.Sum(now, f.Rule.Window)
		if burn(b, all, bad) < f.Rule.Factor/2 {
			f.On, f.Recovered = false, now
			return
		}
		f.LastBad = now
		f.Total, f.Failed = b.Sum(now, f.Rule.Long)
		return
	}
	for _, id := range burnRates {
		rule := set.Get(id)
		if rule == nil || now-j.store.Begin < int64(rule.Long/2) {
			continue
		}
		all, bad := b.Sum(now, rule.Long)
		recent, recentBad := b.Sum(now, rule.Window)
		if bad < rule.MinCount || burn(b, all, bad) <= rule.Factor || burn(b, recent, recentBad) <= rule.Factor {
			continue
		}
		kind := rules.KindHTTPErrors
		if b.SLO.Threshold > 0 {
			kind = rules.KindLatency
		}
		*f = observe.Fault{
			On: true, Rule: rule, Since: now - int64(rule.Window), Fired: now, LastBad: now, Kind: kind,
			Tally: observe.Tally{Failed: bad, Total: all, Ratio: float64(bad) / float64(all)},
		}
		return
	}
}

// burn is how many times faster than evenly the budget is used.
func burn(b *observe.Budget, all, bad uint64) float64 {
	if all == 0 {
		return 0
	}
	return float64(bad) / float64(all) / (1 - b.SLO.Objective)
}

// Left is the share of an objective's error budget over three days that is left; below zero it is overdrawn.
func Left(b *observe.Budget, now int64) float64 {
	all, bad := b.Sum(now, 72*time.Hour)
	return 1 - burn(b, all, bad)
}
