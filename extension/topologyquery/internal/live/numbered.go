package live

import "encoding/binary"

const (
	// maxReasons and maxResponses bound those of one edge; further ones count under the last.
	maxReasons   = 64
	maxResponses = 128
)

// names are what an edge counts by number.
type names struct {
	reasons   []Reason
	responses []Response
}

func (n *names) reason(of Reason) int     { return numberOf(&n.reasons, of, maxReasons) }
func (n *names) response(of Response) int { return numberOf(&n.responses, of, maxResponses) }

// numberOf is the number of a name; beyond a bound it is the last one's.
func numberOf[T comparable](all *[]T, of T, most int) int {
	for i := range *all {
		if (*all)[i] == of {
			return i
		}
	}
	if len(*all) >= most {
		return most - 1
	}
	*all = append(*all, of)
	return len(*all) - 1
}

// numbered are counts by number.
type numbered []uint64

func (c *numbered) add(number int, n uint64) {
	for len(*c) <= number {
		*c = append(*c, 0)
	}
	(*c)[number] += n
}

func (c *numbered) addAll(other numbered) {
	for number, n := range other {
		if n != 0 {
			c.add(number, n)
		}
	}
}

// subtract takes away earlier counts of the same names.
func (c numbered) subtract(earlier numbered) {
	for number, n := range earlier {
		c[number] -= min(c[number], n)
	}
}

func (c numbered) empty() bool {
	for _, n := range c {
		if n != 0 {
			return false
		}
	}
	return true
}

// pack appends how many counts are not zero, and each with its number.
func (c numbered) pack(b []byte) []byte {
	some := uint64(0)
	for _, n := range c {
		if n != 0 {
			some++
		}
	}
	b = binary.AppendUvarint(b, some)
	for number, n := range c {
		if n != 0 {
			b = binary.AppendUvarint(b, uint64(number))
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

// unpack adds packed counts and returns what follows them.
func (c *numbered) unpack(b []byte) []byte {
	var some, number, n uint64
	some, b = uvarint(b)
	for range some {
		number, b = uvarint(b)
		n, b = uvarint(b)
		c.add(int(number), n)
	}
	return b
}
