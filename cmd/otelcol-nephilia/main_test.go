package main

import (
	"os"
	"testing"
)

// asCollector in the environment makes the test binary the collector itself, so that a test can run the distribution
// as a process of its own without another build.
const asCollector = "NEPHILIA_TEST_AS_COLLECTOR"

func TestMain(m *testing.M) {
	if os.Getenv(asCollector) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}
