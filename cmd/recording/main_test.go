package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCompare(t *testing.T) {
	before := &outcome{
		edges:   map[string]string{"a → b": "closed 1", "a → c": "closed 2", "a → d": "closed 3"},
		outages: map[string]string{"refused": "open"},
	}
	now := &outcome{
		edges:   map[string]string{"a → b": "closed 1", "a → c": "closed 4", "a → e": "closed 5"},
		outages: map[string]string{"refused": "open"},
	}
	var out strings.Builder
	compare(&out, before, now)
	assert.Equal(t, `- a → c: closed 2
+ a → c: closed 4
- a → d: closed 3
+ a → e: closed 5
edges: 1 are the same, 3 differ
outages: 1 are the same, 0 differ
`, out.String())
}
