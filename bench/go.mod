// Side-by-side benchmarks of the built binary. It needs nothing but the standard library: what is measured runs as
// processes of their own.
module github.com/nephilia/nephilia/bench

go 1.26.0
