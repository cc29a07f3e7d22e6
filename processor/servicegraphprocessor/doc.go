// Package servicegraphprocessor joins what the ends of a mesh's connections say into one service graph: edges as
// metrics, flow spans as traces (docs/data-model.md, sections 4 and 5).
package servicegraphprocessor
