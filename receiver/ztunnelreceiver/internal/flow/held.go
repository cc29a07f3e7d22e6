package flow

import (
	"encoding/binary"
	"iter"
)

// heldEntries keeps entries that are ahead of the next boundary, in the order of their arrival.
type heldEntries struct {
	// horizon is the next boundary in nanoseconds, 0 when there is none.
	horizon int64
	data    []byte
	spare   []byte
	dirty   bool
}

// heldHead is what precedes an entry: node, observed time, length.
const heldHead = 4 + 8 + 4

// add keeps a copy of an entry, unless there is no room for it.
func (h *heldEntries) add(node int, entry []byte, observed int64, limit int) bool {
	if len(h.data)+heldHead+len(entry) > limit {
		return false
	}
	h.data = binary.LittleEndian.AppendUint32(h.data, uint32(node))
	h.data = binary.LittleEndian.AppendUint64(h.data, uint64(observed))
	h.data = binary.LittleEndian.AppendUint32(h.data, uint32(len(entry)))
	h.data = append(h.data, entry...)
	h.dirty = true
	return true
}

// release passes every entry on; those that are still ahead come back through add.
func (h *heldEntries) release(fn func(node int, entry []byte, observed int64)) {
	if len(h.data) == 0 {
		return
	}
	data := h.data
	h.data, h.spare = h.spare[:0], nil
	h.dirty = true
	for rest := data; len(rest) >= heldHead; {
		observed := int64(binary.LittleEndian.Uint64(rest[4:]))
		end := heldHead + int(binary.LittleEndian.Uint32(rest[12:]))
		fn(int(binary.LittleEndian.Uint32(rest)), rest[heldHead:end], observed)
		rest = rest[end:]
	}
	h.spare = data
}

// each goes through the nodes of the entries.
func (h *heldEntries) each() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for rest := h.data; len(rest) >= heldHead; {
			if !yield(binary.LittleEndian.Uint32(rest)) {
				return
			}
			rest = rest[heldHead+int(binary.LittleEndian.Uint32(rest[12:])):]
		}
	}
}

// validHeld checks data that was read from a checkpoint.
func validHeld(data []byte, nodes *nodeTable) bool {
	for len(data) > 0 {
		if len(data) < heldHead || !nodes.known(binary.LittleEndian.Uint32(data)) {
			return false
		}
		size := int64(binary.LittleEndian.Uint32(data[12:]))
		if size > int64(len(data)-heldHead) {
			return false
		}
		data = data[heldHead+int(size):]
	}
	return true
}
