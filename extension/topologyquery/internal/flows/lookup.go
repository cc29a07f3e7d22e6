package flows

import (
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/semconv"
)

// Lookup is what a flow says of a name that a pod asked its ztunnel's DNS proxy for.
type Lookup struct {
	Name string `json:"query_name,omitempty"`
	Type string `json:"query_type,omitempty"`
	// Result is one of the results of ztunnel.dns.lookups (docs/data-model.md, section 1.1).
	Result string `json:"query_result,omitempty"`
}

// Results are what may come of a lookup.
var Results = []string{
	semconv.LookupAnswered, semconv.LookupEmpty, semconv.LookupForwarded, semconv.LookupNoRecords, semconv.LookupServerFailure, semconv.LookupRefused,
	semconv.LookupTimeout, semconv.LookupOther,
}

// AddLookup takes over a record of a node's DNS proxy (docs/data-model.md, section 2).
func (b *Batch) AddLookup(node string, record plog.LogRecord) {
	attrs := record.Attributes()
	f := parse(record)
	f.Node, f.Direction, f.Protocol, f.Security = node, semconv.DirectionOutbound, semconv.ProtocolDNS, securityUnknown
	f.Lookup = &Lookup{
		Name: text(attrs, semconv.AttrQuestionName), Type: text(attrs, semconv.AttrQuestionType), Result: text(attrs, semconv.AttrLookupResult),
	}
	*b = append(*b, encode(&f))
}

const (
	fieldQueryName   = "query_name"
	fieldQueryType   = "query_type"
	fieldQueryResult = "query_result"
)

var lookupTexts = []textField{
	{fieldQueryName, func(f *Flow) *string { return &f.Name }},
	{fieldQueryType, func(f *Flow) *string { return &f.Type }},
	{fieldQueryResult, func(f *Flow) *string { return &f.Result }},
}

// LookupFilter selects lookups; an empty field selects all flows.
type LookupFilter struct {
	// Query is part of the name that was asked for, Result what came of it.
	Query, Result string
}
