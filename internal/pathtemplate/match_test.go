package pathtemplate

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		template, path string
		want           bool
	}{
		{"/", "/", true},
		{"/products", "/products", true},
		{"/products", "/products/", false},
		{"/products/{id}", "/products/4711", true},
		{"/products/{id}", "/products/", false},
		{"/products/{id}", "/products/4711/reviews", false},
		{"/products/{id}/reviews", "/products/4711/reviews", true},
		{"/products/*", "/products/4711/reviews", true},
		{"/products/*", "/orders/1", false},
		{"/*/reviews", "/products/reviews", true},
		{"/files/{id}.json", "/files/77.json", true},
		{"/files/{id}.json", "/files/.json", false},
		{"/files/{id}.json", "/files/77.xml", false},
		{"/compare/{base}...{head}", "/compare/main...fix", true},
		{"/compare/{base}...{head}", "/compare/main..fix", false},
		{"/odd/{id", "/odd/{id", true},
		{"*", "/anything/at/all", true},
	} {
		assert.Equal(t, c.want, Match(c.template, c.path), "%s %s", c.template, c.path)
	}
}
