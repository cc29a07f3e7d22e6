package tail

import (
	"errors"
	"fmt"
	"regexp"
	"syscall"
	"time"
)

// Where to begin in a log that is there at the very first start.
const (
	StartAtBeginning = "beginning"
	StartAtEnd       = "end"
)

// ValidateReading checks the options of how a log is read, whoever writes it.
func ValidateReading(startAt string, pollInterval time.Duration, maxEntrySize int) error {
	var errs []error
	if startAt != StartAtBeginning && startAt != StartAtEnd {
		errs = append(errs, fmt.Errorf("start_at %q must be %q or %q", startAt, StartAtBeginning, StartAtEnd))
	}
	if pollInterval <= 0 {
		errs = append(errs, errors.New("poll_interval must be positive"))
	}
	if maxEntrySize < 1024 {
		errs = append(errs, errors.New("max_entry_size must be at least 1024"))
	}
	return errors.Join(errs...)
}

// ValidateOrigin checks an option that says whose log a file is: by a group of an expression for its path, or one for all. gives is what
// the group gives.
func ValidateOrigin(option, pathRegexp, static, gives string) error {
	if pathRegexp == "" {
		return nil
	}
	var errs []error
	if static != "" {
		errs = append(errs, fmt.Errorf("%s: path_regexp and static exclude each other", option))
	}
	if pattern, err := regexp.Compile(pathRegexp); err != nil {
		errs = append(errs, fmt.Errorf("%s::path_regexp: %w", option, err))
	} else if pattern.NumSubexp() != 1 {
		errs = append(errs, fmt.Errorf("%s::path_regexp must have one group, which gives %s", option, gives))
	}
	return errors.Join(errs...)
}

// openAtOnce is how many files may be open at once: at most so many, and a quarter of what the process may open at all. Where there are
// more, they are read by turns.
func openAtOnce(most int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return most
	}
	return int(max(2, min(uint64(most), limit.Cur/4)))
}
