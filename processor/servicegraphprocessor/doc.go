// Package servicegraphprocessor joins what the ends of a mesh's connections say into one service graph: edges as
// metrics, flow spans as traces (docs/data-model.md, sections 4 and 5).
//
// The graph (graph.go) keeps the lock, the clock and the order in which its parts settle. Each kind of input has a part of its own
// in internal/: flows, scraped and requests add to what internal/edges holds and emits, spanjoin joins spans, and all of them ask
// internal/naming who the ends are.
package servicegraphprocessor
