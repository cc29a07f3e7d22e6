package flow

import "encoding/binary"

// heldEntries keeps entries that are ahead of the next boundary, in the order of their arrival.
type heldEntries struct {
	data  []byte
	spare []byte
	dirty bool
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
		node := int(binary.LittleEndian.Uint32(rest))
		observed := int64(binary.LittleEndian.Uint64(rest[4:]))
		size := int(binary.LittleEndian.Uint32(rest[12:]))
		fn(node, rest[heldHead:heldHead+size], observed)
		rest = rest[heldHead+size:]
	}
	h.spare = data
}

// validHeld checks data that was read from a checkpoint.
func validHeld(data []byte, nodes int) bool {
	for len(data) > 0 {
		if len(data) < heldHead || int64(binary.LittleEndian.Uint32(data)) >= int64(nodes) {
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
