// Package outagedetector judges a service graph: it finds outages, says what causes them and whom they reach, and follows
// them to their end (docs/data-model.md, section 6). It decides on the data's own time.
package outagedetector
