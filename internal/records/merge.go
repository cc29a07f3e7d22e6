package records

import (
	"cmp"
	"errors"
	"math/bits"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Bounds of merged files.
const (
	// fanIn is how many files of a size become one of the next.
	fanIn = 8
	// smallest is the number of records up to which files are of the smallest size.
	smallest = 512
	// maxRows and maxFiles bound a merge's result and its inputs.
	maxRows  = 2 << 20
	maxFiles = 64
	// unboundedRetention is by what files are cut where no age bounds them.
	unboundedRetention = 30 * 24 * time.Hour
)

// level is a file's size: each is eight times the one before.
func level(rows int) int { return max(bits.Len(uint(rows/smallest))-1, -1) / 3 }

// mergeable returns the newest neighbours that are to become one file, none if all is well.
func (t *Table) mergeable() []*file {
	t.mu.RLock()
	defer t.mu.RUnlock()
	// So many files leave one by one, by age and by size.
	span, size := int64(cmp.Or(t.settings.Retention, unboundedRetention))/16, t.settings.maxFileBytes()
	for tier := range level(maxRows) + 1 {
		var run []*file
		rows, bytes := 0, int64(0)
		for _, f := range slices.Backward(t.files) {
			rows, bytes = rows+f.rows, bytes+f.bytes
			if level(f.rows) > tier || rows > maxRows || bytes > size || len(run) == maxFiles {
				break
			}
			if len(run) > 0 && (f.first+uint64(f.rows) != run[len(run)-1].first || run[0].last-f.arrived > span) {
				break
			}
			run = append(run, f)
		}
		if len(run) >= fanIn {
			slices.Reverse(run)
			return run
		}
	}
	return nil
}

// merge makes one file of neighbours. It tells whether there was anything to do.
func (t *Table) merge() (merged bool, err error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	files := t.mergeable()
	if len(files) == 0 {
		return false, nil
	}
	about := files[0].info
	about.rows = 0
	var parts []part
	for _, f := range files {
		about.rows += f.rows
		about.arrived, about.last, about.low = min(about.arrived, f.arrived), max(about.last, f.last), min(about.low, f.low)
		for _, p := range f.parts {
			parts = append(parts, p)
		}
	}
	f, err := writeFile(t.directory, &t.kind, parts, about)
	if err != nil {
		return false, t.findDamaged(files, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files = slices.DeleteFunc(slices.Clone(t.files), func(one *file) bool { return slices.Contains(files, one) })
	t.files = append(t.files, f)
	slices.SortFunc(t.files, func(a, b *file) int { return cmp.Compare(a.first, b.first) })
	for _, one := range files {
		if !one.gone.Swap(true) {
			_ = os.Remove(one.path)
			one.release()
		}
	}
	return true, nil
}

// findDamaged sets those files aside that cannot be read, if that is why they could not be merged.
func (t *Table) findDamaged(files []*file, why error) error {
	for _, f := range files {
		for _, p := range f.parts {
			var err error
			for _, name := range p.names() {
				if _, err = p.column(name); err != nil {
					break
				}
			}
			if err != nil {
				t.damaged(f, err)
				why = nil
				break
			}
		}
	}
	if why != nil {
		t.logger.Debug("Files of records could not be merged", zap.String("kind", t.kind.Name), zap.Error(why))
	}
	return errors.Join(why)
}
