package identity

import (
	"cmp"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/expiry"
)

// answerer is who sends spans of servers: an app in its namespace, or a host by its name alone.
type answerer struct{ namespace, name string }

func answererOf(p edge.Party) answerer { return answerer{p.Namespace, cmp.Or(p.App, p.Workload)} }

// Voices are who sent spans of servers lately, and who did not.
type Voices struct {
	answering, silent *expiry.Table[answerer, struct{}]
}

// NewVoices returns what remembers at most limit of each.
func NewVoices(limit int) Voices {
	return Voices{expiry.New[answerer, struct{}](limit, nil), expiry.New[answerer, struct{}](limit, nil)}
}

// Hear notes that a server, which its client may have called by a name, sends spans.
func (v *Voices) Hear(p edge.Party, host string, now pcommon.Timestamp) {
	v.answering.Put(answererOf(p), struct{}{}, now)
	v.silent.Delete(answererOf(p))
	if host != "" {
		v.answering.Put(answerer{name: host}, struct{}{}, now)
	}
}

// Heard tells whether a party, or who is called by a name, sends spans.
func (v *Voices) Heard(p edge.Party, host string) bool {
	if _, known := v.answering.Get(answererOf(p)); known {
		return true
	}
	_, known := v.answering.Get(answerer{name: host})
	return known && host != ""
}

// Sweep forgets those of whom nothing was heard since a time.
func (v *Voices) Sweep(before pcommon.Timestamp) {
	v.answering.Sweep(before)
	v.silent.Sweep(before)
}

// Rewind takes note that the clock went back to a time.
func (v *Voices) Rewind(now pcommon.Timestamp) {
	v.answering.Rewind(now)
	v.silent.Rewind(now)
}

// Missed tells whether a party is known to send no spans of servers.
func (v *Voices) Missed(p edge.Party) bool {
	_, known := v.silent.Get(answererOf(p))
	return known
}

// Miss notes that a party sent no span where it should have.
func (v *Voices) Miss(p edge.Party, now pcommon.Timestamp) {
	v.silent.Put(answererOf(p), struct{}{}, now)
}
