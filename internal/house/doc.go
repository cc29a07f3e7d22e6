// Package house holds the tree to the rules of CONTRIBUTING.md: sizes, who may import whom, and that what is keyed from outside is bounded.
package house
