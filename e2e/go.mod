// End-to-end tests of the built binary with real peers. They need nothing but the standard library: what takes part
// runs as processes of its own.
module github.com/nephilia/nephilia/e2e

go 1.26.0
