package journal

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

var (
	errShort = errors.New("unexpected end")
	errRange = errors.New("out of range")
)

// maxString bounds a text that is read.
const maxString = 1 << 16

// Coder writes records or reads them: the same calls describe both, so that what is written is what is read. After an
// error a reading coder gives zeros.
type Coder struct {
	reading bool
	data    []byte
	err     error
	// written and read are the texts that occurred before in this journal, which are told by their number. They are bounded by what is
	// recorded between two writings anew.
	written map[string]uint64
	read    []string
	intern  func(string) string
}

// Reading tells the direction.
func (c *Coder) Reading() bool { return c.reading }

// Fail notes that what was read makes no sense.
func (c *Coder) Fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.data = nil
}

// Uint is an unsigned number.
func (c *Coder) Uint(v *uint64) {
	if !c.reading {
		c.data = binary.AppendUvarint(c.data, *v)
		return
	}
	value, n := binary.Uvarint(c.data)
	if n <= 0 {
		c.Fail(errShort)
		*v = 0
		return
	}
	*v, c.data = value, c.data[n:]
}

// Int is a signed number.
func (c *Coder) Int(v *int64) {
	if !c.reading {
		c.data = binary.AppendVarint(c.data, *v)
		return
	}
	value, n := binary.Varint(c.data)
	if n <= 0 {
		c.Fail(errShort)
		*v = 0
		return
	}
	*v, c.data = value, c.data[n:]
}

// Int32 is a signed number of 32 bits.
func (c *Coder) Int32(v *int32) {
	wide := int64(*v)
	c.Int(&wide)
	if wide < math.MinInt32 || wide > math.MaxInt32 {
		c.Fail(errRange)
		wide = 0
	}
	*v = int32(wide)
}

// Port is an unsigned number of 16 bits.
func (c *Coder) Port(v *uint16) {
	wide := uint64(*v)
	c.Uint(&wide)
	if wide > math.MaxUint16 {
		c.Fail(errRange)
		wide = 0
	}
	*v = uint16(wide)
}

// Bool is true or false.
func (c *Coder) Bool(v *bool) {
	var n uint64
	if *v {
		n = 1
	}
	c.Uint(&n)
	*v = n != 0
}

// Float is a number that is finite.
func (c *Coder) Float(v *float64) {
	if !c.reading {
		c.data = binary.LittleEndian.AppendUint64(c.data, math.Float64bits(*v))
		return
	}
	*v = 0
	if len(c.data) < 8 {
		c.Fail(errShort)
		return
	}
	value := math.Float64frombits(binary.LittleEndian.Uint64(c.data))
	c.data = c.data[8:]
	if math.IsNaN(value) || math.IsInf(value, 0) {
		c.Fail(errRange)
		return
	}
	*v = value
}

// Bytes are bytes of at most limit; what was read belongs to the caller.
func (c *Coder) Bytes(v *[]byte, limit int) {
	n := c.Len(len(*v), limit)
	if !c.reading {
		c.data = append(c.data, *v...)
		return
	}
	*v = append([]byte(nil), c.data[:n]...)
	c.data = c.data[n:]
}

// Text is a string. One that occurred before in the journal is written as its number.
func (c *Coder) Text(v *string) {
	if c.reading {
		*v = c.readText()
		return
	}
	if number, ok := c.written[*v]; ok {
		c.data = binary.AppendUvarint(c.data, number)
		return
	}
	c.written[strings.Clone(*v)] = uint64(len(c.written)) + 1
	c.data = binary.AppendUvarint(c.data, 0)
	c.data = binary.AppendUvarint(c.data, uint64(len(*v)))
	c.data = append(c.data, *v...)
}

func (c *Coder) readText() string {
	var number uint64
	c.Uint(&number)
	if number > uint64(len(c.read)) {
		c.Fail(errRange)
	}
	if c.err != nil {
		return ""
	}
	if number > 0 {
		return c.read[number-1]
	}
	var length uint64
	c.Uint(&length)
	if length > maxString || length > uint64(len(c.data)) {
		c.Fail(errShort)
		return ""
	}
	text := c.intern(string(c.data[:length]))
	c.data = c.data[length:]
	c.read = append(c.read, text)
	return text
}

// Len is the number of elements that follow: n when writing. Reading fails beyond limit.
func (c *Coder) Len(n, limit int) int {
	length := uint64(n)
	c.Uint(&length)
	if c.reading && (length > uint64(limit) || length > uint64(len(c.data))) {
		c.Fail(errRange)
		return 0
	}
	return int(length)
}

// Slice codes a slice of at most limit elements.
func Slice[T any](c *Coder, s *[]T, limit int, element func(*T)) {
	n := c.Len(len(*s), limit)
	if c.reading {
		*s = nil
		if n > 0 {
			*s = make([]T, n)
		}
	}
	for i := range n {
		element(&(*s)[i])
	}
}
